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
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import numpy as np

from routing.judge import Judge, View
from routing.latency import Spread
from routing.recent import Recent
from routing.router import ModelState, Question, Router
from runners.protocol import Ran, TensorBackend, TextBackend, Ticket
from services.decisions import DecisionLog, Record, now
from services.fleet import Fleet, Member
from services.metrics import Metrics
from turnout.catalog import Catalog, Route
from turnout.errors import (
    CapacityError,
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    LoadFailed,
    RunnerError,
    TurnoutError,
)
from turnout.types import Decision, Generation, Outcome, Piece, Request, Tensors


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
                ran = await self._run(name, request, tensors)
            except (InvalidRequest, asyncio.CancelledError) as error:
                self._end(record, _failed(name, error, request, self.clock()))
                raise
            except (RunnerError, CapacityError) as error:
                problem = problem or error
                self._end_attempt(name, error)
                continue
            cascaded = await self._escalate(decision, name, request, tensors, ran)
            if cascaded is not None:
                name, ran = cascaded
            total_s = self.clock() - request.arrived_s
            outcome = Outcome(name, "ok", ran.queue_s, ran.run_s, total_s, total_s, ran.batch)
            self._end(record, outcome, request)
            self._learn(decision, name, total_s)
            return Answer(decision, name, ran.tensors)
        if problem is None:
            raise LoadFailed(decision.model, "no candidate was tried")
        self._end(record, _failed(decision.model, problem, request, self.clock()))
        raise problem

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
            pieces = self._pieces(name, request)
            try:
                first = await anext(pieces)
            except StopAsyncIteration:
                problem = problem or LoadFailed(name, "ended without an answer")
                continue
            except (InvalidRequest, asyncio.CancelledError) as error:
                self._end(record, _failed(name, error, request, self.clock()))
                raise
            except (RunnerError, CapacityError) as error:
                problem = problem or error
                self._end_attempt(name, error)
                continue
            return Stream(decision, name, self._follow(record, request, name, first, pieces))
        if problem is None:
            raise LoadFailed(decision.model, "no candidate was tried")
        self._end(record, _failed(decision.model, problem, request, self.clock()))
        raise problem

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

    def _ticket(self, request: Request) -> Ticket:
        latency_class = self.catalog.classes[request.latency_class]
        deadline_s = request.deadline_s
        if latency_class.infeasible == "queue":
            deadline_s = float("inf")
        return Ticket(request.id, latency_class.priority, deadline_s)

    async def _warm(self, member: Member, request: Request) -> None:
        """Wait for a model that still loads, no longer than the request may."""
        if not member.ready.is_set():
            left_s = max(self._ticket(request).deadline_s - self.clock(), 0.0)
            timeout_s = None if left_s == float("inf") else left_s
            try:
                await asyncio.wait_for(member.ready.wait(), timeout_s)
            except TimeoutError:
                raise DeadlineUnreachable(
                    f"model {member.name!r} is still loading", retry_after_s=1.0
                ) from None
        if member.broken is not None:
            raise LoadFailed(member.name, member.broken)

    async def _run(self, name: str, request: Request, tensors: Tensors) -> Ran:
        member = self.fleet.members[name]
        await self._warm(member, request)
        ran = await cast("TensorBackend", member.backend).infer(tensors, self._ticket(request))
        member.breaker.succeeded()
        if member.model.placement != "inline":
            member.latency.observe_run(float(ran.batch), ran.run_s)
        return ran

    async def _escalate(
        self, decision: Decision, name: str, request: Request, tensors: Tensors, ran: Ran
    ) -> tuple[str, Ran] | None:
        """A cascade's second step: rows the cheap model is unsure of go to the best fallback."""
        route = self.catalog.routes.get(decision.route)
        if route is None or route.cascade is None or not decision.fallbacks:
            return None
        unsure = self._unsure(route, request, ran.tensors)
        if not unsure.any():
            return None
        better = max(
            (c for c in decision.candidates if c.model in decision.fallbacks),
            key=lambda candidate: candidate.prediction.quality,
        )
        if self.clock() + better.prediction.p50_s > request.deadline_s:
            return None
        rows = np.flatnonzero(unsure)
        try:
            again = await self._run(
                better.model, request, {key: value[rows] for key, value in tensors.items()}
            )
        except (RunnerError, CapacityError) as error:
            self._end_attempt(better.model, error)
            return None
        merged = {key: np.array(value) for key, value in ran.tensors.items()}
        for key, value in again.tensors.items():
            merged[key][rows] = value
        return better.model, Ran(
            merged, ran.queue_s + again.queue_s, ran.run_s + again.run_s, ran.batch
        )

    def _unsure(self, route: Route, request: Request, tensors: Tensors) -> np.ndarray:
        confidence = self._judge.confidence(request.task, tensors)
        threshold = route.cascade.threshold if route.cascade else 0.0
        return confidence < threshold

    async def _pieces(self, name: str, request: Request) -> AsyncGenerator[Piece, None]:
        member = self.fleet.members[name]
        await self._warm(member, request)
        generation = cast("Generation", request.inputs)
        backend = cast("TextBackend", member.backend)
        pieces = backend.generate(generation, self._ticket(request))
        async with aclosing(cast("AsyncGenerator[Piece, None]", pieces)):
            async for piece in pieces:
                yield piece

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
            self._end_attempt(name, error)
            raise
        finally:
            await rest.aclose()
            total_s = self.clock() - request.arrived_s
            outcome = Outcome(
                name, status, 0.0, total_s - first_s, total_s, first_s, 1,
                last.prompt_tokens, last.completion_tokens,
            )  # fmt: skip
            self._end(record, outcome, request)
            if status == "ok":
                self.fleet.succeeded(name)
                self._learn_generation(record.decision, name, last, first_s, total_s)

    def _learn(self, decision: Decision, name: str, actual_s: float) -> None:
        """Compare what was predicted of the chosen model with what it took."""
        if name != decision.model:
            return
        told = next(c.prediction for c in decision.candidates if c.model == name)
        spread = Spread(told.p50_s, told.p95_s, told.p99_s, told.expected_s, told.waited)
        self.fleet.members[name].latency.observe_answer(spread, actual_s)

    def _learn_generation(
        self, decision: Decision, name: str, last: Piece, first_s: float, total_s: float
    ) -> None:
        self._learn(decision, name, first_s)
        latency = self.fleet.members[name].latency
        told = next(c.prediction for c in decision.candidates if c.model == name)
        if not told.waited and name == decision.model:
            latency.observe_run(float(last.prompt_tokens), first_s)
        writing_s = total_s - first_s
        if last.completion_tokens > 1:
            latency.observe_token(writing_s / (last.completion_tokens - 1))
        latency.observe_turn(writing_s + latency.run_s(float(last.prompt_tokens)))

    def _end_attempt(self, name: str, error: TurnoutError) -> None:
        if isinstance(error, RunnerError):
            self.fleet.failed(name, error)

    def _end(self, record: Record, outcome: Outcome, request: Request | None = None) -> None:
        decision = record.decision
        cost_usd, within = 0.0, None
        for candidate in decision.candidates:
            if candidate.model == outcome.model:
                cost_usd = candidate.prediction.cost_usd
                if outcome.model == decision.model:
                    within = outcome.first_s <= candidate.prediction.p95_s
        held = request is not None and outcome.first_s <= request.deadline_in_s
        self.metrics.ended(decision, outcome, held, cost_usd, within)
        self.log.end(record, outcome)


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


def _failed(name: str, error: BaseException, request: Request, now_s: float) -> Outcome:
    code = error.code if isinstance(error, TurnoutError) else "cancelled"
    total_s = now_s - request.arrived_s
    return Outcome(name, code, 0.0, 0.0, total_s, total_s)
