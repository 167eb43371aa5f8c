"""The record of one decision: its basis, sufficient for a replay, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec import to_builtins

from routing.decision.budget_control import Steer
from routing.decision.decider import Decided
from routing.decision.exploration import Exploration
from routing.decision.log_schema import (
    DecisionEntry,
    Escalation,
    LoggedAttempt,
    LoggedBounds,
    LoggedCandidate,
    LoggedDecision,
    LoggedExploration,
    LoggedOutcome,
    LoggedRouter,
    LoggedSteer,
    LoggedVersion,
)
from routing.decision.request_view import View
from routing.features.rows import rows_of
from routing.rollout.traffic_split import VersionDraw
from turnout.catalog import LatencyClass
from turnout.types import Decision, Generation, Limits, Outcome, Prediction, Request, Task, Tensors


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt: its model, error, and time after arrival."""

    model: str
    code: str
    message: str
    after_s: float


@dataclass(slots=True)
class DecisionRecord:
    """A decision, its basis and its outcome.

    Attributes:
        decided: the decision and its basis.
        decided_at: wall-clock time, UTC.
        named: the target of the request: a route, ``auto`` or a model.
        arrived_s: monotonic instant of its arrival.
        latency_class: the request's class.
        deadline_ms: time from arrival to the deadline.
        limits: the caller's own constraints.
        trace_id: the caller's trace, if it sent one.
        session: the caller's session, if it named one.
        prompt: the last message; None unless logging of prompts is switched on.
        row: a request of one row as numbers; None unless logging of features is switched on.
        failures: attempts that failed, in order.
        escalation: a cascade's second step.
        shadow: the decision of the shadow router; None without one.
        outcome: None while the request runs.
        cost_usd: cost of the answer, from the tokens really read and written.
        feedback: the last feedback on the answer, oldest first.
    """

    decided: Decided
    decided_at: datetime
    named: str
    arrived_s: float
    latency_class: LatencyClass
    deadline_ms: float
    limits: Limits
    trace_id: str | None = None
    session: str | None = None
    prompt: str | None = None
    row: list[float] | None = None
    failures: tuple[Failure, ...] = ()
    escalation: Escalation | None = None
    shadow: dict[str, Any] | None = None
    outcome: Outcome | None = None
    cost_usd: float = 0.0
    feedback: list[dict[str, Any]] | None = None

    @property
    def decision(self) -> Decision:
        """The decision."""
        return self.decided.decision

    @property
    def escalated(self) -> bool:
        """Whether a cascade's second model answered some rows again."""
        return self.escalation is not None and self.escalation.done

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values, for ``GET /v1/decisions/{id}``."""
        return self.log_line() | {"feedback": self.feedback or []}

    def log_line(self) -> dict[str, Any]:
        """Return the record's line of the decision log as plain values, without feedback."""
        decision, decided, view = self.decision, self.decided, self.decided.view
        route = decided.route
        entry = LoggedDecision(
            decision_id=decision.id,
            model=decision.model,
            fallbacks=list(decision.fallbacks),
            reason=decision.reason,
            latency_class=decision.latency_class,
            candidates=[
                LoggedCandidate.with_propensity(candidate, self._propensity(candidate.model))
                for candidate in decision.candidates
            ],
            decided_at=self.decided_at.isoformat(),
            named=self.named,
            route=decision.route,
            rule=decision.rule,
            propensity=decision.propensity,
            deadline_ms=self.deadline_ms,
            max_cost_usd=self.limits.max_cost_usd,
            min_quality=self.limits.min_quality,
            policy=None if route is None else route.policy_for(decision.latency_class),
            target=self._target(),
            bounds=LoggedBounds(
                self.latency_class.percentile,
                self.latency_class.infeasible,
                max(self.limits.min_quality or 0.0, route.min_quality if route else 0.0),
            ),
            features=view.features,
            units=view.demand.units,
            input_tokens=view.input_tokens,
            expected_output_tokens=view.demand.output_tokens,
            steer=_steer(decided.steer),
            exploration=_exploration(decided.exploration),
            version=_version(decided.drawn),
            trace_id=self.trace_id,
            session=self.session,
            prompt=self.prompt,
            row=self.row,
            router=_router(view),
            attempts=self._attempts(),
            escalation=self.escalation,
            shadow=self.shadow,
            outcome=self.outcome and LoggedOutcome.of(self.outcome, self.cost_usd),
        )
        return to_builtins(entry)

    def _propensity(self, model: str) -> float:
        """Return the probability of this model under policy, exploration and a canary's share."""
        decision, chance, drawn = self.decision, self.decided.exploration, self.decided.drawn
        policy_model, model_of_policy, share = decision.model, model, 1.0
        if drawn is not None:
            policy_model, share = drawn.rollout.production, drawn.propensity(model)
            if model == drawn.rollout.canary:
                model_of_policy = policy_model
        if chance is not None:
            return share * chance.propensity(model_of_policy)
        return share * float(model_of_policy == policy_model)

    def _target(self) -> float:
        """Return the share of the best quality that was good enough."""
        steer, route = self.decided.steer, self.decided.route
        if steer is not None:
            return steer.target
        return 0.0 if route is None else route.target_for(self.decision.latency_class)

    def _attempts(self) -> list[LoggedAttempt]:
        attempts = [
            LoggedAttempt(f.model, f.code, f.message, round(f.after_s * 1e3, 3))
            for f in self.failures
        ]
        outcome = self.outcome
        if outcome is not None and outcome.status == "ok":
            after_ms = round(outcome.total_s * 1e3, 3)
            names = (self.decision.model, outcome.model) if self.escalated else (outcome.model,)
            attempts += [LoggedAttempt(name, "ok", after_ms=after_ms) for name in names]
        return attempts


def _steer(steer: Steer | None) -> LoggedSteer | None:
    if steer is None:
        return None
    return LoggedSteer(
        steer.target, steer.route_target, steer.strongest, steer.share_price, steer.usd_price
    )


def _exploration(chance: Exploration | None) -> LoggedExploration | None:
    if chance is None:
        return None
    return LoggedExploration(chance.share, chance.draw, chance.by_chance, chance.policy_model)


def _version(drawn: VersionDraw | None) -> LoggedVersion | None:
    if drawn is None:
        return None
    rollout = drawn.rollout
    return LoggedVersion(
        rollout.name,
        rollout.production,
        rollout.canary,
        rollout.share,
        drawn.draw,
        drawn.part,
        drawn.why_not,
    )


def _router(view: View) -> LoggedRouter | None:
    """Return the trained router that judged the request; only chats have a canary router."""
    if view.router is None:
        return None
    return LoggedRouter(view.router, view.part or "features", list(view.by_prior))


class LoggedInputs(Protocol):
    """The parts of a request's input that are kept with its decision; by default none."""

    prompts: bool
    features: bool


def record_of(
    decided: Decided, request: Request, latency_class: LatencyClass, logged: LoggedInputs
) -> DecisionRecord:
    """Return the record of a new decision."""
    prompt = row = None
    if logged.prompts and isinstance(request.inputs, Generation):
        prompt = request.inputs.messages[-1].content
    if logged.features and not isinstance(request.inputs, Generation):
        row = _one_row(request.task, request.inputs)
    return DecisionRecord(
        decided,
        datetime.now(UTC),
        request.target,
        request.arrived_s,
        latency_class,
        request.deadline_in_s * 1e3,
        request.limits,
        request.trace_id,
        request.session,
        prompt,
        row,
    )


def _one_row(task: Task, tensors: Tensors) -> list[float] | None:
    """Return a request of one row as numbers; None for others: feedback is on all rows at once."""
    if len(next(iter(tensors.values()))) != 1:
        return None
    rows = rows_of(task, tensors, 1)
    return rows[0].tolist() if len(rows) else None


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision as ``POST /v1/route`` shows it; times in milliseconds."""
    return to_builtins(DecisionEntry.of(decision))


def prediction_of(decision: Decision, model: str) -> Prediction | None:
    """Return the prediction for a model; None where it was no candidate."""
    for candidate in decision.candidates:
        if candidate.model == model:
            return candidate.prediction
    return None
