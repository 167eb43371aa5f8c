"""The data plane: decide on a request, run it, fall back, account for it.

The protocols turn bytes into a ``Request`` and back; everything in between is here, once for all
of them.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from routing.decision.constraints import never_in_time
from routing.decision.decider import Decider
from routing.decision.request_view import RequestAnalyzer
from services.dataplane.accounting import Accounting
from services.dataplane.answer import Answer, Stream
from services.dataplane.attempts import Attempts, OpenedStream
from services.dataplane.cascade import Cascade
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
from turnout.types import Outcome, Piece, Request, Tensors

if TYPE_CHECKING:
    from services.process.peers import Answers, Peers
    from services.routers.tensor_routers import TensorRouters

T = TypeVar("T")


@dataclass(slots=True)
class Snapshot:
    """The parts that serve a request, of the catalog it began with, until its end."""

    catalog: Catalog
    decider: Decider
    attempts: Attempts
    accounting: Accounting
    cascade: Cascade


_Attempt: TypeAlias = Callable[[Snapshot, DecisionRecord, Request, str], Awaitable[T]]


class DataPlane:
    """The data plane over one fleet.

    Args:
        catalog: the catalog, as in its file; ``rollouts`` moves its aliases.
        fleet: its models.
        analyzer: estimates the quality of each candidate for a request.
        metrics: counts everything.
        log: keeps every decision.
        clock: monotonic seconds.
        seed: of exploration's draws; random when none is given.
        routers: the trained routers behind ``analyzer``, where chats are served.
        learned: the trained routers of routes of rows and pictures, where there are any.

    Attributes:
        catalog: the present catalog, with the present aliases.
        snapshot: the parts that serve a new request.
        on_adopt: called after each change of the catalog or its aliases.
        draining: whether new requests are refused.
        peers: the other workers of this gateway, where there are any.
    """

    catalog: Catalog
    snapshot: Snapshot

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        analyzer: RequestAnalyzer,
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
        self.on_adopt: list[Callable[[], None]] = []
        self.rollouts = RolloutController(
            catalog, self._realias, metrics.versions.taken_back, fleet.bring_in
        )
        self._analyzer = analyzer
        self._serve(self.rollouts.catalog(), former=None)

    @property
    def decider(self) -> Decider:
        """The decider over the present catalog."""
        return self.snapshot.decider

    def adopt(self, catalog: Catalog, analyzer: RequestAnalyzer) -> None:
        """Decide over this catalog from now on; requests under way end as they began.

        Latency models stay, and so do sessions, the controllers of unchanged routes, and the
        aliases of unchanged models.
        """
        self._analyzer = analyzer
        self.rollouts.adopt(catalog)
        self._realias()

    def _realias(self) -> None:
        """Decide with the present aliases."""
        self._serve(self.rollouts.catalog(), former=self.snapshot.decider)
        for notify in self.on_adopt:
            notify()

    def _serve(self, catalog: Catalog, former: Decider | None) -> None:
        """Serve new requests by this catalog; sessions and controllers of ``former`` stay."""
        self.catalog = catalog
        self.fleet.follow(catalog)
        if self.feature_routers is not None:
            self.feature_routers.adopt(catalog)
        on_trial = self.rollouts.on_trial(catalog)
        decider = Decider(
            catalog, self.fleet.latencies, self._analyzer, self._seed, on_trial, former
        )
        accounting = Accounting(
            catalog, self.fleet, decider, self.metrics, self.log, self.clock, self.routers
        )
        attempts = Attempts(catalog, self.fleet, accounting, self.clock)
        cascade = Cascade(catalog, decider, attempts, accounting, self.clock, self.feature_routers)
        self.snapshot = Snapshot(catalog, decider, attempts, accounting, cascade)

    def new_id(self) -> str:
        """Return an id for a request: unique over processes and restarts."""
        return f"{self._id_prefix}{next(self._id_count):08x}"

    def decide(self, request: Request) -> DecisionRecord:
        """Decide, without running.

        Raises:
            InvalidRequest, CapacityError, LoadFailed: see ``Router.decide``.
        """
        self.refuse_when_draining()
        return self._record(self.snapshot, request, trial=True)

    @contextmanager
    def under_way(self, models: Collection[str]) -> Iterator[Snapshot]:
        """Yield the snapshot for all parts of one request, whatever is reloaded before its end.

        Args:
            models: the models that may answer a part of it; they stay until then.

        Raises:
            Draining: the gateway shuts down.
        """
        self.refuse_when_draining()
        with self.fleet.promised(models):
            yield self.snapshot

    async def infer(self, request: Request, snapshot: Snapshot | None = None) -> Answer:
        """Answer tensors with tensors.

        Args:
            request: the request.
            snapshot: that of the request of which this is a part.

        Raises:
            TurnoutError: the first candidate's error, once all that may answer have failed.
        """
        return await self._first_answer(request, snapshot, self._infer)

    async def generate(self, request: Request, snapshot: Snapshot | None = None) -> Stream:
        """Begin a generated answer; returns once its first piece has arrived.

        A candidate that fails before its first piece is replaced by the next; after that its
        error ends the stream. Arguments and errors are those of ``infer``.
        """
        return await self._first_answer(request, snapshot, self._generate)

    def turned_away(self, code: str) -> None:
        """Count a request that ended before a model was chosen."""
        self.metrics.turned_away(code)

    def feedback(self, decision_id: str, feedback: dict[str, Any]) -> bool:
        """Attach feedback to a decision; False for an unknown decision."""
        return self.snapshot.accounting.feedback(decision_id, feedback)

    def measure(self) -> None:
        """Update the metrics: finished requests, and each model's present load."""
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
        """Return this worker's handlers of the questions of the gateway's other workers."""

        def decision(decision_id: str) -> dict[str, object] | None:
            record = self.log.get(decision_id)
            return None if record is None else record.as_json()

        return {
            "decision": decision,
            "feedback": lambda message: self.feedback(message["decision_id"], message["said"]),
            "measure": lambda _: self.measure(),
        }

    def close(self) -> None:
        """Finish the pending shadow decisions, metrics and log lines."""
        self._shadow.close()
        self.metrics.flush()
        self.log.close()

    def _shadow_router(self) -> LearnedPrompts | None:
        return None if self.routers is None else self.routers.shadow

    def _shadowed(self, record: DecisionRecord, result: dict[str, Any]) -> None:
        """Log and count a decision of the shadow router; called on its thread."""
        self.log.shadowed(record, result)
        self.metrics.shadowed(record.decision.route, agrees=result["agrees"])

    def refuse_when_draining(self) -> None:
        """Refuse a new request once the gateway shuts down.

        Raises:
            Draining: the gateway shuts down.
        """
        if self.draining:
            raise Draining("the gateway is shutting down; retry", retry_after_s=1.0)

    def _record(self, snapshot: Snapshot, request: Request, *, trial: bool) -> DecisionRecord:
        decided = snapshot.decider.decide(request, self.fleet.state, trial=trial)
        latency_class = snapshot.catalog.classes[request.latency_class]
        record = record_of(decided, request, latency_class, self.log)
        self.log.add(record)
        return record

    def _decide(self, snapshot: Snapshot, request: Request, *, part: bool) -> DecisionRecord:
        """Decide a request that will run; one that cannot is counted as turned away.

        Args:
            snapshot: the parts that serve it.
            request: the request.
            part: whether it is a part of a request that was already accepted.
        """
        try:
            if not part:
                self.refuse_when_draining()
            record = self._record(snapshot, request, trial=False)
        except TurnoutError as error:
            self.turned_away(error.code)
            raise
        self._shadow.offer(record, request)
        return record

    async def _first_answer(
        self, request: Request, parent: Snapshot | None, attempt: _Attempt[T]
    ) -> T:
        """Return the answer of the decision's model, else of its fallbacks in their order.

        Args:
            request: the request.
            parent: snapshot of the request of which this is a part; None where it is no part.
            attempt: runs it on one model.
        """
        snapshot = parent or self.snapshot
        record = self._decide(snapshot, request, part=parent is not None)
        accounting, decision = snapshot.accounting, record.decision
        first_error: TurnoutError | None = None
        for name in (decision.model, *decision.fallbacks):
            try:
                return await attempt(snapshot, record, request, name)
            except (RunnerError, CapacityError, InvalidRequest) as error:
                if isinstance(error, InvalidRequest) and not _is_canary(record, name):
                    accounting.failed(record, name, error, request)
                    raise
                first_error = first_error or error
                accounting.attempt_failed(record, name, error)
            except BaseException as error:
                accounting.failed(record, name, error, request)
                raise
        error = first_error or LoadFailed(decision.model, "no candidate was tried")
        if isinstance(error, DeadlineUnreachable):
            error = never_in_time(decision.candidates, request.deadline_in_s) or error
        accounting.failed(record, decision.model, error, request)
        raise error

    async def _infer(
        self, snapshot: Snapshot, record: DecisionRecord, request: Request, name: str
    ) -> Answer:
        tensors = cast("Tensors", request.inputs)
        result = await snapshot.attempts.infer(name, request, tensors)
        escalated = await snapshot.cascade.escalate(record, request, tensors, result)
        if escalated is not None:
            name, result = escalated
        total_s = self.clock() - request.arrived_s
        outcome = Outcome(name, "ok", result.queue_s, result.run_s, total_s, total_s, result.batch)
        snapshot.accounting.answered(record, outcome, request)
        return Answer(record.decision, name, public_tensors(result.tensors), record.escalated)

    async def _generate(
        self, snapshot: Snapshot, record: DecisionRecord, request: Request, name: str
    ) -> Stream:
        opened = await snapshot.attempts.open(name, snapshot.cascade.watched(record, request))
        if name == record.decision.model:
            try:
                opened = await snapshot.cascade.rewrite(record, request, opened)
            except BaseException:
                await opened.rest.aclose()
                raise
        pieces = self._follow(snapshot, record, request, opened)
        return Stream(record.decision, opened.model, pieces, record.escalated)

    async def _follow(
        self, snapshot: Snapshot, record: DecisionRecord, request: Request, opened: OpenedStream
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
            snapshot.accounting.attempt_failed(record, opened.model, error)
            raise
        finally:
            await opened.rest.aclose()
            times_s = (opened.first_s, first_s)
            snapshot.accounting.written(record, request, opened.model, status, last, times_s)


def _is_canary(record: DecisionRecord, name: str) -> bool:
    """Return whether a model is the drawn canary: production may accept what it refuses."""
    drawn = record.decided.drawn
    return drawn is not None and drawn.served and name == drawn.model


def public_tensors(tensors: Tensors) -> Tensors:
    """Return the public outputs, without the confidence that only a cascade reads."""
    if "confidence" not in tensors:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name != "confidence"}
