"""One line of a decision log, read back: everything a decision was made on, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from routing.decision.budget_control import Steer
from routing.decision.constraints import Bounds
from routing.replay.cascade import Step
from turnout.errors import DataError
from turnout.types import Candidate, Prediction


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
        steer: target and prices then.
        model: who was chosen.
        rule: by which rule.
        policy_model: what the policy itself chose where chance had a say; None where it had none.
        canary: the candidate that only its draw may choose; None where there is none.
        answered: who answered in the end; None without an answer.
        first_s: arrival to the first token or the answer; None without an answer.
        total_s: arrival to the end; None without an answer.
        cost_usd: what the answer cost; None without an answer.
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
    step: Step | None = None

    def candidate(self, model: str) -> Candidate:
        """The candidate of this name, which must be one."""
        return next(one for one in self.candidates if one.model == model)


def read_rows(lines: Iterable[str], name: str) -> list[Row]:
    """Read a log: decisions in order, each with the feedback of its later lines.

    Args:
        lines: the log's.
        name: the log's, for messages.

    Raises:
        DataError: names the first line that is no decision, and what is wrong with it; or there
            is none.
    """
    rows: dict[str, Row] = {}
    scores: dict[str, list[float]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = cast("dict[str, Any]", json.loads(line))
            key = str(found["decision_id"])
            if "feedback" in found:
                scores.setdefault(key, []).append(float(found["feedback"]["score"]))
            elif "shadow" not in found or "candidates" in found:
                rows[key] = _row(found)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{name}:{number}: not JSON ({error.msg}); was the log cut off? Remove the line"
            ) from None
        except KeyError as error:
            raise DataError(
                f"{name}:{number}: {error.args[0]!r} is missing; this reads logs written by "
                "this version with TURNOUT_DECISION_LOG"
            ) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{name}:{number}: no decision ({error})") from None
    if not rows:
        raise DataError(f"{name}: holds no decision")
    return [
        replace(row, score=sum(scores[key]) / len(scores[key])) if key in scores else row
        for key, row in rows.items()
    ]


def _row(found: dict[str, Any]) -> Row:
    candidates = tuple(_candidate(one) for one in found["candidates"])
    if not any(one.model == found["model"] for one in candidates):
        raise ValueError(f"the chosen model {found['model']!r} is no candidate")
    ended: dict[str, Any] = found["outcome"] or {}
    ok = ended.get("status") == "ok"
    steer: dict[str, Any] = found["steer"] or {}
    chance: dict[str, Any] = found["exploration"] or {}
    version: dict[str, Any] = found.get("version") or {}
    return Row(
        id=str(found["decision_id"]),
        at_s=datetime.fromisoformat(found["decided_at"]).timestamp(),
        route=str(found["route"]),
        latency_class=str(found["latency_class"]),
        policy=found["policy"],
        bounds=_bounds(found),
        candidates=candidates,
        propensity={one["model"]: float(one["propensity"]) for one in found["candidates"]},
        steer=Steer(
            float(found["target"]),
            float(steer.get("asked", found["target"])),
            str(steer.get("strongest", "")),
            float(steer.get("share_price", 0.0)),
            float(steer.get("usd_price", 0.0)),
        ),
        model=str(found["model"]),
        rule=str(found["rule"]),
        policy_model=chance.get("policy_model", version.get("production")),
        canary=version.get("canary"),
        answered=ended["model"] if ok else None,
        first_s=ended["first_ms"] / 1e3 if ok else None,
        total_s=ended["total_ms"] / 1e3 if ok else None,
        cost_usd=float(ended["cost_usd"]) if ok else None,
        output_tokens=int(ended.get("output_tokens", 0)),
        prompt=found.get("prompt"),
        input_tokens=float(found["input_tokens"]),
        expected_output_tokens=float(found["expected_output_tokens"]),
        features=tuple(map(float, row)) if (row := found.get("row")) else None,
        step=_step(found.get("escalation")),
    )


def _step(found: dict[str, Any] | None) -> Step | None:
    if found is None:
        return None
    sure, gains = found.get("confidences"), found.get("gains")
    return Step(
        to=str(found["to"]),
        rows=int(found["rows"]),
        of=int(found["of"]),
        threshold=float(found["threshold"]),
        done=bool(found["done"]),
        confidences=None if sure is None else tuple(map(float, sure)),
        gain=found.get("gain"),
        gains=None if gains is None else tuple(gains),
    )


def _bounds(found: dict[str, Any]) -> Bounds:
    told: dict[str, Any] = found["bounds"]
    return Bounds(
        float(found["deadline_ms"]) / 1e3,
        float(told["percentile"]),
        found["max_cost_usd"],
        found["min_quality"],
        float(told["floor"]),
        told["infeasible"],
    )


def _candidate(found: dict[str, Any]) -> Candidate:
    prediction = Prediction(
        float(found["quality"]),
        float(found["p50_ms"]) / 1e3,
        float(found["p95_ms"]) / 1e3,
        float(found["cost_usd"]),
        float(found["p99_ms"]) / 1e3,
    )
    return Candidate(
        str(found["model"]),
        prediction,
        bool(found["feasible"]),
        found["why_not"],
        bool(found["broken"]),
    )
