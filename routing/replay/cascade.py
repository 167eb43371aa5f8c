"""Replay of a cascade's second step, from the logged facts of the first answer. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from routing.decision.budget_control import Steer
from routing.decision.constraints import Bounds
from routing.decision.log_schema import Escalation
from turnout.catalog import Route
from turnout.types import Candidate, Prediction


@dataclass(frozen=True, slots=True)
class SecondStep:
    """A replayed second step.

    Attributes:
        to: the better model.
        rows: number of rows that would be escalated.
        of: number of rows in the request.
    """

    to: Candidate
    rows: int
    of: int

    @property
    def share(self) -> float:
        """Share of rows that would be answered twice."""
        return self.rows / self.of


def cascade_of(step: Escalation, steer: Steer, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the route's cascade settings, without the prices in a logged step's thresholds."""
    price = _price(steer, _find(candidates, step.to))
    settings = {"threshold": min(max(round(step.threshold + price, 9), 0.0), 1.0)}
    if step.gain is not None:
        settings["gain"] = min(max(round(step.gain - price, 9), -1.0), 1.0)
    return settings


def second(
    step: Escalation, route: Route, steer: Steer, first: Candidate, bounds: Bounds,
    candidates: Sequence[Candidate],
) -> SecondStep | None:  # fmt: skip
    """Decide which rows are escalated under a route's cascade.

    Args:
        step: the logged second step.
        route: with a cascade, as changed.
        steer: target and prices in the replay.
        first: the candidate that answers first.
        bounds: the bounds that both answers together must keep.
        candidates: every model considered.

    Returns:
        None where the log is not enough: the better model is gone, or there were too many rows to
        log each and the conditions have changed.
    """
    better, cascade = _find(candidates, step.to), route.cascade
    if better is None or cascade is None:
        return None
    price = _price(steer, better)
    threshold = cascade.threshold - price
    rows = _escalated_rows(step, threshold, None if cascade.gain is None else cascade.gain + price)
    if rows is None:
        return None
    usd = first.prediction.cost_usd + better.prediction.cost_usd * rows / step.of
    if bounds.max_cost_usd is not None and usd > bounds.max_cost_usd:
        rows = 0
    return SecondStep(better, rows, step.of)


def mixed(first: Prediction, better: Prediction, share: float) -> Prediction:
    """Return the prediction for an answer with a share of rows answered twice."""
    return Prediction(
        quality=first.quality + share * (better.quality - first.quality),
        p50_s=first.p50_s + (better.p50_s if share > 0 else 0.0),
        p95_s=first.p95_s + (better.p95_s if share > 0 else 0.0),
        cost_usd=first.cost_usd + share * better.cost_usd,
    )


def _escalated_rows(step: Escalation, threshold: float, gain: float | None) -> int | None:
    """Return the number of escalated rows; None where it depends on values not logged."""
    if step.confidences is None:
        same = math.isclose(threshold, step.threshold, abs_tol=1e-9) and gain == step.gain
        return step.rows if same else None
    if gain is None or step.gains is None:
        return sum(value < threshold for value in step.confidences)
    return sum(
        sure < threshold if value is None else value >= gain
        for sure, value in zip(step.confidences, step.gains, strict=True)
    )


def _price(steer: Steer, better: Candidate | None) -> float:
    usd = 0.0 if better is None else better.prediction.cost_usd
    return steer.share_price + steer.usd_price * usd


def _find(candidates: Sequence[Candidate], name: str) -> Candidate | None:
    return next((candidate for candidate in candidates if candidate.model == name), None)
