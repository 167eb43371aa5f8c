"""One request through the gateway: look at it, decide, run, fall back, account.

The protocols turn bytes into a ``Request`` and back; everything between is here, once, for all
of them.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

from routing.decision.constraints import never_in_time
from routing.decision.decider import Decider
from routing.decision.request_view import RequestAnalyzer
from services.dataplane.accounting import Accounting
from services.dataplane.attempts import Attempts
from services.dataplane.cascade import Cascade, OpenedStream
from services.dataplane.decision_log import DecisionLog
from services.dataplane.decision_record import DecisionRecord, record_of
from services.dataplane.shadow_router import ShadowRouter
from services.fleet.fleet import Fleet
from services.metrics.metrics import Metrics
from services.rollouts.controller import RolloutController
from services.routers.prompt_routers import LearnedPrompts, PromptRouters
from turnout.catalog import Catalog
from turnout.errors import (
    CapacityError,
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    LoadFailed,
    RunnerError,
    TurnoutError,
)
from turnout.types import Decision, Outcome, Piece, Request, Tensors

if TYPE_CHECKING:
    from services.process.peers import Answers, Peers
    from services.routers.tensor_routers import TensorRouters


@dataclass(slots=True)
class Answer:
    """Tensors that came back, who made them, and the decision behind them.

    ``escalated`` says that this model answered what the decision's was unsure of.
    """

    decision: Decision
    model: str
    tensors: Tensors
    escalated: bool = False


@dataclass(slots=True)
class Stream:
    """A generated answer: the decision, who writes it, and its pieces.

    ``escalated`` says that this model writes because the decision's was unsure.
    """

    decision: Decision
    model: str
    pieces: AsyncGenerator[Piece, None]
    escalated: bool = False


@dataclass(slots=True)
class Snapshot:
    """What decides, runs and accounts for a request by the catalog it began with, to its end."""

    catalog: Catalog
    decider: Decider
    attempts: Attempts
    ledger: Accounting
    cascade: Cascade


class DataPlane:
    """The data plane over one fleet.

    Args:
        catalog: the catalog, as its file says; ``rollouts`` moves its aliases.
        fleet: its models.
        judge: quality of each candidate for a request.
        metrics: where everything is counted.
        log: where every decision is kept.
        clock: monotonic seconds.
        seed: of exploration's draws; random when none is given.
        routers: the trained routers behind ``judge``, where chats are served.
        learned: those of routes of rows and pictures, where there are any.
    """

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        judge: RequestAnalyzer,
        metrics: Metrics,
        log: DecisionLog,
        clock: Callable[[], float] = time.monotonic,
        seed: bytes | None = None,
        routers: PromptRouters | None = None,
        learned: TensorRouters | None = None,
    ) -> None:
        self.fleet = fleet
        self.metrics = metrics
        self.log = log
        self.clock = clock
        self._seed = seed or os.urandom(16)
        self.routers = routers
        self.feature_routers = learned
        self._shadow = ShadowRouter(self._shadow_router, self._shadowed)
        self.draining = False
        self.peers: Peers | None = None
        self._id_prefix = f"req-{os.urandom(6).hex()}"
        self._id_count = itertools.count()
        self.adopted: list[Callable[[], None]] = []
        self.decider = Decider(catalog, fleet.latencies, judge, self._seed)
        self.rollouts = RolloutController(
            catalog, self._realias, metrics.versions.taken_back, fleet.bring_in
        )
        self.adopt(catalog, judge)

    def adopt(self, catalog: Catalog, judge: RequestAnalyzer) -> None:
        """Decide over this catalog from now on; requests under way end as they began.

        What was learned of each model's latency stays, and so do stickiness, the knobs of routes
        that are as they were, and aliases of models of which the catalog says the same.
        """
        self._judge = judge
        self.rollouts.adopt(catalog)
        self._realias()

    def _realias(self) -> None:
        """Decide with the aliases of now."""
        self.catalog = catalog = self.rollouts.catalog()
        self.fleet.follow(catalog)
        if self.feature_routers is not None:
            self.feature_routers.adopt(catalog)
        self.decider = Decider(
            catalog,
            self.fleet.latencies,
            self._judge,
            self._seed,
            self.rollouts.on_trial(catalog),
            self.decider,
        )
        attempts = Attempts(catalog, self.fleet, self.clock)
        ledger = Accounting(
            catalog, self.fleet, self.decider, self.metrics, self.log, self.clock, self.routers
        )
        cascade = Cascade(catalog, self.decider, attempts, self.clock, self.feature_routers)
        self._terms = Snapshot(catalog, self.decider, attempts, ledger, cascade)
        for told in self.adopted:
            told()

    def new_id(self) -> str:
        """An id for a request: unique over processes and restarts."""
        return f"{self._id_prefix}{next(self._id_count):08x}"

    def decide(self, request: Request) -> DecisionRecord:
        """Decide, without running.

        Raises:
            InvalidRequest, CapacityError, LoadFailed: see ``Router.decide``.
        """
        self._refuse_new()
        return self._record(self._terms, request, trial=True)

    @contextmanager
    def under_way(self, models: Collection[str]) -> Iterator[Snapshot]:
        """What all parts of one request go by, whatever is reloaded before its end.

        Args:
            models: those that may answer a part of it; they stay until then.

        Raises:
            Draining: no new request is taken.
        """
        self._refuse_new()
        with self.fleet.promised(models):
            yield self._terms

    async def infer(self, request: Request, under_way: Snapshot | None = None) -> Answer:
        """Answer tensors with tensors.

        Args:
            request: the request.
            under_way: what the request goes by of which this is a part.

        Raises:
            TurnoutError: the last candidate's error, once all that may answer have failed.
        """
        terms, record = self._decide(request, under_way)
        decision = record.decision
        tensors = cast("Tensors", request.inputs)
        problem: TurnoutError | None = None
        for name in (decision.model, *decision.fallbacks):
            try:
                ran = await terms.attempts.infer(name, request, tensors)
                cascaded = await terms.cascade.escalate(record, request, tensors, ran)
            except (RunnerError, CapacityError) as error:
                problem = problem or error
                terms.attempts.failed(record, name, error)
                continue
            except InvalidRequest as error:
                if not _tries(record, name):
                    terms.ledger.failed(record, name, error, request)
                    raise
                problem = problem or error
                terms.attempts.failed(record, name, error)
                continue
            except BaseException as error:
                terms.ledger.failed(record, name, error, request)
                raise
            if cascaded is not None:
                name, ran = cascaded
            total_s = self.clock() - request.arrived_s
            outcome = Outcome(name, "ok", ran.queue_s, ran.run_s, total_s, total_s, ran.batch)
            terms.ledger.answered(record, outcome, request)
            return Answer(decision, name, _public(ran.tensors), record.escalated)
        self._give_up(terms, record, problem, request)

    async def generate(self, request: Request, under_way: Snapshot | None = None) -> Stream:
        """Begin a generated answer; returns once its first piece is there.

        A candidate that fails before its first piece is replaced by the next; after that its
        error ends the stream. For ``under_way`` see ``infer``.

        Raises:
            TurnoutError: the first candidate's error, once all have failed.
        """
        terms, record = self._decide(request, under_way)
        decision = record.decision
        watched = terms.cascade.watched(record, request)
        problem: TurnoutError | None = None
        for name in (decision.model, *decision.fallbacks):
            pieces = terms.attempts.generate(name, watched)
            try:
                opened = await self._open(name, pieces, request)
                if name == decision.model:
                    opened = await terms.cascade.rewrite(record, request, opened)
            except (RunnerError, CapacityError) as error:
                problem = problem or error
                terms.attempts.failed(record, name, error)
                continue
            except InvalidRequest as error:
                if not _tries(record, name):
                    terms.ledger.failed(record, name, error, request)
                    await pieces.aclose()
                    raise
                problem = problem or error
                terms.attempts.failed(record, name, error)
                continue
            except BaseException as error:
                terms.ledger.failed(record, name, error, request)
                await pieces.aclose()
                raise
            pieces = self._follow(terms, record, request, opened)
            return Stream(decision, opened.model, pieces, record.escalated)
        self._give_up(terms, record, problem, request)

    def feedback(self, decision_id: str, said: dict[str, Any]) -> bool:
        """Attach feedback to a decision; False when it is not remembered."""
        return self._terms.ledger.feedback(decision_id, said)

    def measure(self) -> None:
        """Bring the metrics up to date: what has ended, and each model's load now."""
        self.metrics.flush()
        for name, member in self.fleet.members.items():
            if not member.measured_apart:
                self.metrics.loaded(name, member.backend.load_now())
        if self.routers is not None:
            self.metrics.on_trial(self.routers.share)
        for name, control in self.decider.controls.items():
            self.metrics.steered(name, control.state(self.clock()))
        if self.rollouts.any:
            self.metrics.rolled_out(self.catalog, self.rollouts.trials)
        self.metrics.pooled(self.fleet.pool)

    def answers_to_peers(self) -> Answers:
        """What this worker does for the others of its gateway."""

        def decision(decision_id: str) -> dict[str, object] | None:
            record = self.log.get(decision_id)
            return None if record is None else record.as_json()

        return {
            "decision": decision,
            "feedback": lambda said: self.feedback(said["decision_id"], said["said"]),
            "measure": lambda _: self.measure(),
        }

    def close(self) -> None:
        """Finish what is counted and written behind the requests."""
        self._shadow.close()
        self.metrics.flush()
        self.log.close()

    def _shadow_router(self) -> LearnedPrompts | None:
        return None if self.routers is None else self.routers.shadow

    def _shadowed(self, record: DecisionRecord, found: dict[str, Any]) -> None:
        """The shadow router has decided, on its own thread."""
        self.log.shadowed(record, found)
        self.metrics.shadowed(record.decision.route, agrees=found["agrees"])

    def _decide(
        self, request: Request, under_way: Snapshot | None
    ) -> tuple[Snapshot, DecisionRecord]:
        terms = under_way or self._terms
        try:
            if under_way is None:
                self._refuse_new()
            record = self._record(terms, request, trial=False)
        except TurnoutError as error:
            self.metrics.turned_away(error.code)
            raise
        self._shadow.offer(record, request)
        return terms, record

    def _refuse_new(self) -> None:
        if self.draining:
            raise Draining("the gateway is shutting down; retry", retry_after_s=1.0)

    def _record(self, terms: Snapshot, request: Request, *, trial: bool) -> DecisionRecord:
        decided = terms.decider.decide(request, self.fleet.state, trial=trial)
        latency_class = terms.catalog.classes[request.latency_class]
        record = record_of(decided, request, latency_class, self.log)
        self.log.add(record)
        return record

    def _give_up(
        self,
        terms: Snapshot,
        record: DecisionRecord,
        problem: TurnoutError | None,
        request: Request,
    ) -> NoReturn:
        name = record.decision.model
        if problem is None:
            raise LoadFailed(name, "no candidate was tried")
        if isinstance(problem, DeadlineUnreachable):
            problem = never_in_time(record.decision.candidates, request.deadline_in_s) or problem
        terms.ledger.failed(record, name, problem, request)
        raise problem

    async def _open(
        self, name: str, pieces: AsyncGenerator[Piece, None], request: Request
    ) -> OpenedStream:
        """Wait for the first piece."""
        first = await anext(pieces, None)
        if first is None:
            raise LoadFailed(name, "ended without an answer")
        return OpenedStream(name, [first], pieces, self.clock() - request.arrived_s)

    async def _follow(
        self, terms: Snapshot, record: DecisionRecord, request: Request, opened: OpenedStream
    ) -> AsyncGenerator[Piece, None]:
        """Pass the pieces on and account for the answer when it ends, however it ends."""
        first_s = self.clock() - request.arrived_s
        last = opened.read[-1]
        status = "cancelled"
        try:
            for piece in opened.read:
                yield piece
            async for piece in opened.rest:
                last = piece
                yield piece
            status = "ok"
        except TurnoutError as error:
            status = error.code
            terms.attempts.failed(record, opened.model, error)
            raise
        finally:
            await opened.rest.aclose()
            terms.ledger.written(record, request, opened, status, last, first_s)


def _tries(record: DecisionRecord, name: str) -> bool:
    """Whether this is a canary: what it refuses, production may well take."""
    drawn = record.decided.drawn
    return drawn is not None and drawn.served and name == drawn.model


def _public(tensors: Tensors) -> Tensors:
    """The outputs that callers are promised, without what only a cascade needs."""
    if "confidence" not in tensors:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name != "confidence"}
