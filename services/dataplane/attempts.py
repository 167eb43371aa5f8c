"""One attempt: a request on one model, with its urgency, its breaker and what it teaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from runners.protocol import TensorBackend, TensorResult, TextBackend, Ticket
from services.dataplane.decision_record import DecisionRecord, Failure
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from turnout.catalog import Catalog
from turnout.errors import DeadlineUnreachable, LoadFailed, RunnerError, TurnoutError
from turnout.types import Generation, Piece, Request, Tensors


class Attempts:
    """Runs requests on the models of one fleet.

    Args:
        catalog: for the latency classes.
        fleet: the models.
        clock: monotonic seconds.
    """

    def __init__(self, catalog: Catalog, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._clock = clock

    async def infer(self, name: str, request: Request, tensors: Tensors) -> TensorResult:
        """Run tensors on one model.

        Raises:
            InvalidRequest, CapacityError, RunnerError: see ``TensorBackend.infer``.
        """
        member = self._member(name)
        await self._warm(member, request)
        ran = await cast("TensorBackend", member.backend).infer(tensors, self._ticket(request))
        member.breaker.succeeded()
        if member.model.placement != "inline":
            member.latency.observe_run(float(ran.batch), ran.run_s)
        return ran

    async def generate(self, name: str, request: Request) -> AsyncGenerator[Piece, None]:
        """Write an answer on one model, piece by piece.

        Raises:
            InvalidRequest, CapacityError, RunnerError: see ``TextBackend.generate``.
        """
        member = self._member(name)
        await self._warm(member, request)
        generation = cast("Generation", request.inputs)
        backend = cast("TextBackend", member.backend)
        pieces = backend.generate(generation, self._ticket(request))
        async with aclosing(cast("AsyncGenerator[Piece, None]", pieces)):
            async for piece in pieces:
                yield piece

    def failed(self, record: DecisionRecord, name: str, error: TurnoutError) -> None:
        """An attempt failed: noted, and the model's breaker hears of what was its fault."""
        after_s = self._clock() - record.arrived_s
        record.failures = (*record.failures, Failure(name, error.code, str(error), after_s))
        if isinstance(error, RunnerError):
            self._fleet.failed(name, error)

    def _ticket(self, request: Request) -> Ticket:
        latency_class = self._catalog.classes[request.latency_class]
        deadline_s = request.deadline_s
        if latency_class.infeasible == "queue":
            deadline_s = float("inf")
        return Ticket(request.id, latency_class.priority, deadline_s)

    def _member(self, name: str) -> Member:
        member = self._fleet.members.get(name)
        if member is None:
            raise LoadFailed(name, "a reload has removed it from the catalog")
        return member

    async def _warm(self, member: Member, request: Request) -> None:
        """Wait for a model that still loads, no longer than the request may."""
        if not member.ready.is_set():
            left_s = max(self._ticket(request).deadline_s - self._clock(), 0.0)
            timeout_s = None if left_s == float("inf") else left_s
            try:
                async with asyncio.timeout(timeout_s):
                    await member.ready.wait()
            except TimeoutError:
                raise DeadlineUnreachable(
                    f"model {member.name!r} is still loading", retry_after_s=1.0
                ) from None
        if member.broken is not None:
            raise LoadFailed(member.name, member.broken)
