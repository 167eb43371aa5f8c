"""Reader of decision logs: each decision with its basis, outcome and feedback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from msgspec import ValidationError, convert

from routing.decision.budget_control import Steer
from routing.decision.constraints import Bounds
from routing.decision.log_schema import Escalation, LoggedCandidate, LoggedDecision
from turnout.errors import DataError
from turnout.types import Candidate, Prediction

_MISSING = re.compile(r"missing required field `(\w+)`")


@dataclass(frozen=True, slots=True)
class Row:
    """A logged decision. Times are in seconds.

    Attributes:
        id: the decision's.
        at_s: when it was decided; seconds since 1970.
        route: the route that decided.
        latency_class: name of the class.
        policy: the route's policy; None when the model was named directly.
        bounds: what an answer had to keep.
        candidates: every model considered, with its prediction.
        propensity: probability with which the logging policy chose each model here.
        steer: target and prices at that time.
        model: the chosen model.
        rule: name of the rule that decided.
        policy_model: the policy's own choice where a draw took part; None where none did.
        canary: the candidate that only its draw may choose; None where there is none.
        answered: the model that answered in the end; None without an answer.
        first_s: arrival to the first token or the answer; None without an answer.
        total_s: arrival to the end; None without an answer.
        cost_usd: cost of the answer; None without an answer.
        output_tokens: written; 0 for tensors.
        score: mean of the feedback, in [0, 1]; None without any.
        prompt: None unless prompts were logged.
        features: of a request of one row; None unless features were logged.
        step: a cascade's second step; None without one.
    """

    id: str
    at_s: float
    route: str
    latency_class: str
    policy: str | None
    bounds: Bounds
    candidates: tuple[Candidate, ...]
    propensity: Mapping[str, float]
    steer: Steer
    model: str
    rule: str
    policy_model: str | None = None
    canary: str | None = None
    answered: str | None = None
    first_s: float | None = None
    total_s: float | None = None
    cost_usd: float | None = None
    output_tokens: int = 0
    score: float | None = None
    prompt: str | None = None
    input_tokens: float = 0.0
    expected_output_tokens: float = 0.0
    features: tuple[float, ...] | None = None
    step: Escalation | None = None

    def candidate(self, model: str) -> Candidate:
        """Return the candidate of this name, which must exist."""
        return next(candidate for candidate in self.candidates if candidate.model == model)


def read_rows(lines: Iterable[str], name: str) -> list[Row]:
    """Read a log: decisions in order, each with the feedback of its later lines.

    Args:
        lines: the log's.
        name: the log's, for messages.

    Raises:
        DataError: a line is no decision (the message names the first one and its problem), or
            there is no decision.
    """
    rows: dict[str, Row] = {}
    scores: dict[str, list[float]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = cast("dict[str, Any]", json.loads(line))
            key = str(entry["decision_id"])
            if "feedback" in entry:
                scores.setdefault(key, []).append(float(entry["feedback"]["score"]))
            elif "shadow" not in entry or "candidates" in entry:
                rows[key] = _row(convert(entry, LoggedDecision))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{name}:{number}: not JSON ({error.msg}); was the log cut off? Remove the line"
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{name}:{number}: {_problem(error)}") from None
    if not rows:
        raise DataError(f"{name}: holds no decision; give a log written with TURNOUT_DECISION_LOG")
    return [
        replace(row, score=sum(scores[key]) / len(scores[key])) if key in scores else row
        for key, row in rows.items()
    ]


def _problem(error: Exception) -> str:
    """Return why a line is no decision: a missing key, or a value of a wrong type."""
    missing = error.args[0] if isinstance(error, KeyError) else None
    if isinstance(error, ValidationError) and (match := _MISSING.search(str(error))):
        missing = match[1]
    if missing is None:
        return f"no decision ({error})"
    return (
        f"{missing!r} is missing; this reads logs written by this version with TURNOUT_DECISION_LOG"
    )


def _row(entry: LoggedDecision) -> Row:
    if not any(candidate.model == entry.model for candidate in entry.candidates):
        raise ValueError(f"the chosen model {entry.model!r} is no candidate")
    outcome, version, chance = entry.outcome, entry.version, entry.exploration
    answer = outcome if outcome is not None and outcome.status == "ok" else None
    production = None if version is None else version.production
    return Row(
        id=entry.decision_id,
        at_s=datetime.fromisoformat(entry.decided_at).timestamp(),
        route=entry.route,
        latency_class=entry.latency_class,
        policy=entry.policy,
        bounds=Bounds(
            entry.deadline_ms / 1e3,
            entry.bounds.percentile,
            entry.max_cost_usd,
            entry.min_quality,
            entry.bounds.floor,
            entry.bounds.infeasible,
        ),
        candidates=tuple(map(_candidate, entry.candidates)),
        propensity={candidate.model: candidate.propensity for candidate in entry.candidates},
        steer=_steer(entry),
        model=entry.model,
        rule=entry.rule,
        policy_model=production if chance is None else chance.policy_model,
        canary=None if version is None else version.canary,
        answered=None if answer is None else answer.model,
        first_s=None if answer is None else answer.first_ms / 1e3,
        total_s=None if answer is None else answer.total_ms / 1e3,
        cost_usd=None if answer is None else answer.cost_usd,
        output_tokens=0 if outcome is None else outcome.output_tokens,
        prompt=entry.prompt,
        input_tokens=entry.input_tokens,
        expected_output_tokens=entry.expected_output_tokens,
        features=tuple(entry.row) if entry.row else None,
        step=entry.escalation,
    )


def _steer(entry: LoggedDecision) -> Steer:
    """Return target and prices at that time; the route's own target where it has no controllers."""
    steer = entry.steer
    if steer is None:
        return Steer(entry.target, entry.target)
    route_target = entry.target if steer.asked is None else steer.asked
    return Steer(entry.target, route_target, steer.strongest, steer.share_price, steer.usd_price)


def _candidate(entry: LoggedCandidate) -> Candidate:
    prediction = Prediction(
        entry.quality,
        entry.p50_ms / 1e3,
        entry.p95_ms / 1e3,
        entry.cost_usd,
        entry.p99_ms / 1e3,
    )
    return Candidate(entry.model, prediction, entry.feasible, entry.why_not, entry.broken)
