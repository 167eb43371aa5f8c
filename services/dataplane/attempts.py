"""One attempt: a request on one model, with its urgency and its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from runners.protocol import TensorBackend, TensorResult, TextBackend, Ticket
from services.dataplane.accounting import Accounting
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from turnout.catalog import Catalog
from turnout.errors import DeadlineUnreachable, LoadFailed
from turnout.types import Generation, Piece, Request, Tensors


@dataclass(slots=True)
class OpenedStream:
    """A generation whose first piece has arrived.

    Attributes:
        model: the model that writes it.
        read: pieces already read, in order; at least one.
        rest: the pieces still to come.
        first_s: arrival to the model's own first piece.
    """

    model: str
    read: list[Piece]
    rest: AsyncGenerator[Piece, None]
    first_s: float


class Attempts:
    """Runs requests on the models of one fleet.

    Args:
        catalog: for the latency classes.
        fleet: the models.
        accounting: records successful runs.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        accounting: Accounting,
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._accounting = accounting
        self._clock = clock

    async def infer(self, name: str, request: Request, tensors: Tensors) -> TensorResult:
        """Run tensors on one model.

        Raises:
            InvalidRequest, CapacityError, RunnerError: see ``TensorBackend.infer``.
        """
        member = self._member(name)
        if member.broken is not None or not member.ready.is_set():
            await self._wait_ready(member, request)
        backend = cast("TensorBackend", member.backend)
        result = await backend.infer(tensors, self._ticket(request))
        self._accounting.run_succeeded(member, result)
        return result

    async def open(self, name: str, request: Request) -> OpenedStream:
        """Begin an answer on one model; returns once its first piece has arrived.

        Raises:
            InvalidRequest, CapacityError, RunnerError: see ``TextBackend.generate``.
        """
        pieces = self._generate(name, request)
        try:
            first = await anext(pieces, None)
            if first is None:
                raise LoadFailed(name, "ended without an answer")
        except BaseException:
            await pieces.aclose()
            raise
        return OpenedStream(name, [first], pieces, self._clock() - request.arrived_s)

    async def _generate(self, name: str, request: Request) -> AsyncGenerator[Piece, None]:
        member = self._member(name)
        await self._wait_ready(member, request)
        generation = cast("Generation", request.inputs)
        backend = cast("TextBackend", member.backend)
        pieces = backend.generate(generation, self._ticket(request))
        async with aclosing(cast("AsyncGenerator[Piece, None]", pieces)):
            async for piece in pieces:
                yield piece

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

    async def _wait_ready(self, member: Member, request: Request) -> None:
        """Wait for a model that still loads, until the request's deadline at most.

        Raises:
            DeadlineUnreachable: the model is still loading at the deadline.
            LoadFailed: the model is out of service, with the reason.
        """
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
