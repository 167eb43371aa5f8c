"""What is kept of one decision: enough to decide it again, and everything that came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from routing.decision.decider import Decided
from routing.features.rows import rows_of
from turnout.catalog import LatencyClass
from turnout.types import Decision, Generation, Limits, Outcome, Prediction, Request, Task, Tensors


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed: on which model, how, and when after arrival."""

    model: str
    code: str
    message: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Escalation:
    """A cascade's second step.

    Attributes:
        to: the better model.
        rows: how many rows the first model was unsure of.
        of: how many there were.
        threshold: confidence under which a row goes on, with the prices of the moment.
        confidence: of the first answer's least sure row.
        done: whether the second answer was used; if not, ``why``.
        gain: what a second answer had to be expected to add, where a trained router decided.
        confidences: of the first answer's rows; None of many.
        gains: what a second answer was expected to add to each row; NaN for rows unlike those of
            the training.
    """

    to: str
    rows: int
    of: int
    threshold: float
    confidence: float
    done: bool
    why: str = ""
    gain: float | None = None
    confidences: tuple[float, ...] | None = None
    gains: tuple[float, ...] | None = None


@dataclass(slots=True)
class DecisionRecord:
    """A decision, what it was decided on, and what came of it.

    Attributes:
        decided: the decision and its basis.
        decided_at: wall-clock time, UTC.
        named: what the caller named: a route, ``auto`` or a model.
        arrived_s: monotonic instant of its arrival.
        latency_class: the class's word.
        deadline_ms: time the request had.
        limits: the caller's own constraints.
        trace_id: the caller's trace, if it sent one.
        session: the caller's session, if it named one.
        prompt: the last message; None unless logging of prompts is switched on.
        row: a request of one row as numbers; None unless logging of features is switched on.
        failures: attempts that failed, in order.
        escalation: a cascade's second step.
        shadow: what the shadow router would have decided.
        outcome: what happened; None while it runs.
        cost_usd: what the answer cost, from what was really read and written.
        feedback: what callers said of the answer last, oldest first.
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
        """Whether a cascade's second model answered what the first was unsure of."""
        return self.escalation is not None and self.escalation.done

    def as_json(self) -> dict[str, Any]:
        """The record as plain values, for the log and for ``GET /v1/decisions/{id}``."""
        decision, view = self.decision, self.decided.view
        return decision_json(decision) | {
            "candidates": self._candidates(),
            "decided_at": self.decided_at.isoformat(),
            "named": self.named,
            "route": decision.route,
            "rule": decision.rule,
            "propensity": decision.propensity,
            "deadline_ms": self.deadline_ms,
            "max_cost_usd": self.limits.max_cost_usd,
            "min_quality": self.limits.min_quality,
            "policy": self._policy(),
            "target": self._target(),
            "bounds": self._bounds(),
            "features": view.features,
            "units": view.demand.units,
            "input_tokens": view.input_tokens,
            "expected_output_tokens": view.demand.output_tokens,
            "steer": self._steer(),
            "exploration": self._exploration(),
            "version": self._version(),
            "trace_id": self.trace_id,
            "session": self.session,
            "prompt": self.prompt,
            "row": self.row,
            "router": self._router(),
            "attempts": self._attempts(),
            "escalation": self._escalation(),
            "shadow": self.shadow,
            "outcome": self.outcome and outcome_json(self.outcome, self.cost_usd),
            "feedback": self.feedback or [],
        }

    def _candidates(self) -> list[dict[str, Any]]:
        decision = self.decision
        found = candidates_json(decision)
        for shown, candidate in zip(found, decision.candidates, strict=True):
            shown["p99_ms"] = round(candidate.prediction.p99_s * 1e3, 4)
            shown["broken"] = candidate.broken
            shown["propensity"] = self._propensity(candidate.model)
        return found

    def _router(self) -> dict[str, Any] | None:
        """Which trained router judged the request, if one did; the canary's trial is of chats."""
        view = self.decided.view
        if view.router is None:
            return None
        part = view.part or "features"
        return {"digest": view.router, "part": part, "by_prior": list(view.by_prior)}

    def _propensity(self, model: str) -> float:
        """The probability that this model answers: of the policy, chance, and a canary's share."""
        decision, chance, drawn = self.decision, self.decided.exploration, self.decided.drawn
        chosen, asked, share = decision.model, model, 1.0
        if drawn is not None:
            chosen, share = drawn.rollout.production, drawn.propensity(model)
            asked = chosen if model == drawn.rollout.canary else model
        return share * (float(asked == chosen) if chance is None else chance.propensity(asked))

    def _version(self) -> dict[str, Any] | None:
        """Which version chance drew, of a model with a canary."""
        drawn = self.decided.drawn
        if drawn is None:
            return None
        rollout = drawn.rollout
        return {
            "name": rollout.name,
            "production": rollout.production,
            "canary": rollout.canary,
            "share": rollout.share,
            "draw": drawn.draw,
            "part": drawn.part,
            "why_not": drawn.why_not,
        }

    def _policy(self) -> str | None:
        route = self.decided.route
        return None if route is None else route.policy_for(self.decision.latency_class)

    def _target(self) -> float:
        """The share of the best quality that was good enough."""
        steer, route = self.decided.steer, self.decided.route
        if steer is not None:
            return steer.target
        return 0.0 if route is None else route.target_for(self.decision.latency_class)

    def _bounds(self) -> dict[str, Any]:
        """What else an answer had to keep."""
        told, route = self.latency_class, self.decided.route
        return {
            "percentile": told.percentile,
            "infeasible": told.infeasible,
            "floor": max(self.limits.min_quality or 0.0, route.min_quality if route else 0.0),
        }

    def _steer(self) -> dict[str, Any] | None:
        steer = self.decided.steer
        if steer is None:
            return None
        return {
            "target": steer.target,
            "asked": steer.asked,
            "strongest": steer.strongest,
            "share_price": steer.share_price,
            "usd_price": steer.usd_price,
        }

    def _exploration(self) -> dict[str, Any] | None:
        chance = self.decided.exploration
        if chance is None:
            return None
        return {
            "share": chance.share,
            "draw": chance.draw,
            "by_chance": chance.by_chance,
            "policy_model": chance.policy_model,
        }

    def _attempts(self) -> list[dict[str, Any]]:
        tried: list[dict[str, Any]] = [
            {
                "model": failure.model,
                "status": failure.code,
                "message": failure.message,
                "after_ms": round(failure.after_s * 1e3, 3),
            }
            for failure in self.failures
        ]
        ended = self.outcome
        if ended is not None and ended.status == "ok":
            after_ms = round(ended.total_s * 1e3, 3)
            first = self.decision.model if self.escalated else ended.model
            names = (first, ended.model) if self.escalated else (first,)
            tried += [{"model": name, "status": "ok", "after_ms": after_ms} for name in names]
        return tried

    def _escalation(self) -> dict[str, Any] | None:
        told = self.escalation
        if told is None:
            return None
        return {name: getattr(told, name) for name in Escalation.__slots__}


class Kept(Protocol):
    """What of a request's input is kept with its decision; by default nothing."""

    prompts: bool
    features: bool


def record_of(
    decided: Decided, request: Request, latency_class: LatencyClass, kept: Kept
) -> DecisionRecord:
    """The record of a decision that was just made."""
    prompt = row = None
    if kept.prompts and isinstance(request.inputs, Generation):
        prompt = request.inputs.messages[-1].content
    if kept.features and not isinstance(request.inputs, Generation):
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
    """A request of one row as numbers; None for others, since feedback is on all rows at once."""
    if len(next(iter(tensors.values()))) != 1:
        return None
    rows = rows_of(task, tensors, 1)
    return rows[0].tolist() if len(rows) else None


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision as ``POST /v1/route`` shows it; times in milliseconds."""
    return {
        "decision_id": decision.id,
        "model": decision.model,
        "fallbacks": list(decision.fallbacks),
        "reason": decision.reason,
        "latency_class": decision.latency_class,
        "candidates": candidates_json(decision),
    }


def candidates_json(decision: Decision) -> list[dict[str, Any]]:
    """Every candidate and what is predicted of it."""
    return [
        {
            "model": candidate.model,
            "quality": round(candidate.prediction.quality, 6),
            "p50_ms": round(candidate.prediction.p50_s * 1e3, 4),
            "p95_ms": round(candidate.prediction.p95_s * 1e3, 4),
            "cost_usd": candidate.prediction.cost_usd,
            "feasible": candidate.feasible,
            "why_not": candidate.why_not,
        }
        for candidate in decision.candidates
    ]


def outcome_json(outcome: Outcome, cost_usd: float) -> dict[str, Any]:
    """What happened; times in milliseconds."""
    return {
        "model": outcome.model,
        "status": outcome.status,
        "queue_ms": round(outcome.queue_s * 1e3, 3),
        "run_ms": round(outcome.run_s * 1e3, 3),
        "first_ms": round(outcome.first_s * 1e3, 3),
        "total_ms": round(outcome.total_s * 1e3, 3),
        "batch": outcome.batch,
        "input_tokens": outcome.input_tokens,
        "cached_tokens": outcome.cached_tokens,
        "output_tokens": outcome.output_tokens,
        "cost_usd": cost_usd,
    }


def prediction_of(decision: Decision, model: str) -> Prediction | None:
    """What was predicted of a model; None where it was no candidate."""
    for candidate in decision.candidates:
        if candidate.model == model:
            return candidate.prediction
    return None
