"""One request through the gateway: look at it, decide, run, fall back, account.

The protocols turn bytes into a ``Request`` and back; everything between is here, once, for all
of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

from routing.judge import Judge, View
from routing.recent import Recent
from routing.router import ModelState, Question, Router
from services.attempts import Attempts
from services.cascade import Cascade
from services.decisions import DecisionLog, Record, now
from services.fleet import Fleet
from services.ledger import Ledger
from services.metrics import Metrics
from turnout.catalog import Catalog
from turnout.errors import (
    CapacityError,
    Draining,
    InvalidRequest,
    LoadFailed,
    RunnerError,
    TurnoutError,
)
from turnout.types import Decision, Outcome, Piece, Request, Tensors


@dataclass(slots=True)
class Answer:
    """Tensors that came back, who made them, and the decision behind them."""

    decision: Decision
    model: str
    tensors: Tensors


@dataclass(slots=True)
class Stream:
    """A generated answer: the decision, who writes it, and its pieces."""

    decision: Decision
    model: str
    pieces: AsyncGenerator[Piece, None]


class Plane:
    """The data plane over one fleet.

    Args:
        catalog: the catalog.
        fleet: its models.
        judge: quality of each candidate for a request.
        metrics: where everything is counted.
        log: where every decision is kept.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        judge: Judge,
        metrics: Metrics,
        log: DecisionLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalog = catalog
        self.fleet = fleet
        self.metrics = metrics
        self.log = log
        self.clock = clock
        self._judge = judge
        self._router = Router(catalog, fleet.latencies)
        self._recent = Recent()
        self._attempts = Attempts(catalog, fleet, clock)
        self._ledger = Ledger(fleet, metrics, log, clock)
        self._cascade = Cascade(catalog, judge, self._attempts, clock)
        self.draining = False
        self._id_prefix = f"req-{os.urandom(6).hex()}"
        self._id_count = itertools.count()

    def new_id(self) -> str:
        """An id for a request: unique over processes and restarts."""
        return f"{self._id_prefix}{next(self._id_count):08x}"

    def decide(self, request: Request) -> Record:
        """Decide, without running.

        Raises:
            InvalidRequest, CapacityError, LoadFailed: see ``Router.decide``.
        """
        if self.draining:
            raise Draining("the gateway is shutting down; retry", retry_after_s=1.0)
        _, models = self._router.candidates(request)
        view = self._judge.look(request, models)
        state: dict[str, ModelState] = {name: self.fleet.state(name) for name in models}
        key = None if view.by_content else _sameness(request, view, state)
        decision = None
        if key is not None:
            decision = self._recent.recall(key, request.id, request.arrived_s)
        if decision is None:
            question = Question(request, view.demand, view.input_tokens, view.quality)
            decision = self._router.decide(question, state)
            if key is not None:
                self._recent.remember(key, decision, request.arrived_s)
        record = Record(
            decision,
            now(),
            request.deadline_in_s * 1e3,
            request.limits,
            view.features,
            request.trace_id,
        )
        self.log.add(record)
        return record

    async def infer(self, request: Request) -> Answer:
        """Answer tensors with tensors.

        Raises:
            TurnoutError: the last candidate's error, once all that may answer have failed.
        """
        record = self._decide(request)
        decision = record.decision
        tensors = cast("Tensors", request.inputs)
        problem: TurnoutError | None = None
        for name in (decision.model, *decision.fallbacks):
            try:
                ran = await self._attempts.infer(name, request, tensors)
            except (InvalidRequest, asyncio.CancelledError) as error:
                self._ledger.failed(record, name, error, request)
                raise
            except (RunnerError, CapacityError) as error:
                problem = problem or error
                self._attempts.failed(name, error)
                continue
            cascaded = await self._cascade.escalate(decision, request, tensors, ran)
            if cascaded is not None:
                name, ran = cascaded
            total_s = self.clock() - request.arrived_s
            outcome = Outcome(name, "ok", ran.queue_s, ran.run_s, total_s, total_s, ran.batch)
            self._ledger.answered(record, outcome, request)
            return Answer(decision, name, ran.tensors)
        self._give_up(record, problem, request)

    async def generate(self, request: Request) -> Stream:
        """Begin a generated answer; returns once its first piece is there.

        A candidate that fails before its first piece is replaced by the next; after that its
        error ends the stream.

        Raises:
            TurnoutError: the first candidate's error, once all have failed.
        """
        record = self._decide(request)
        decision = record.decision
        problem: TurnoutError | None = None
        for name in (decision.model, *decision.fallbacks):
            pieces = self._attempts.generate(name, request)
            try:
                first = await anext(pieces)
            except StopAsyncIteration:
                problem = problem or LoadFailed(name, "ended without an answer")
                continue
            except (InvalidRequest, asyncio.CancelledError) as error:
                self._ledger.failed(record, name, error, request)
                raise
            except (RunnerError, CapacityError) as error:
                problem = problem or error
                self._attempts.failed(name, error)
                continue
            return Stream(decision, name, self._follow(record, request, name, first, pieces))
        self._give_up(record, problem, request)

    def measure(self) -> None:
        """Bring the metrics up to date: what has ended, and each model's load now."""
        self.metrics.flush()
        for name, member in self.fleet.members.items():
            self.metrics.loaded(name, member.backend.load_now())

    def _decide(self, request: Request) -> Record:
        try:
            record = self.decide(request)
        except TurnoutError as error:
            self.metrics.refused.labels(error.code).inc()
            raise
        return record

    def _give_up(self, record: Record, problem: TurnoutError | None, request: Request) -> NoReturn:
        name = record.decision.model
        if problem is None:
            raise LoadFailed(name, "no candidate was tried")
        self._ledger.failed(record, name, problem, request)
        raise problem

    async def _follow(
        self,
        record: Record,
        request: Request,
        name: str,
        first: Piece,
        rest: AsyncGenerator[Piece, None],
    ) -> AsyncGenerator[Piece, None]:
        """Pass the pieces on and account for the answer when it ends, however it ends."""
        first_s = self.clock() - request.arrived_s
        last = first
        status = "cancelled"
        try:
            yield first
            async for piece in rest:
                last = piece
                yield piece
            status = "ok"
        except TurnoutError as error:
            status = error.code
            self._attempts.failed(name, error)
            raise
        finally:
            await rest.aclose()
            self._ledger.written(record, request, name, status, last, first_s)


def _sameness(request: Request, view: View, state: Mapping[str, ModelState]) -> tuple[object, ...]:
    """What two requests have in common when they deserve the same decision."""
    return (
        request.target,
        request.task,
        request.latency_class,
        round(request.deadline_in_s, 6),
        request.limits,
        view.demand.units,
        *(
            (one.busy.queued_units, one.busy.running, one.busy.load_in_s > 0, one.broken)
            for one in state.values()
        ),
    )
