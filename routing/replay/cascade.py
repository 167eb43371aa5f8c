"""A cascade's second step, decided again from what the log says of the first answer. Pure."""

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
class Second:
    """A second step decided again.

    Attributes:
        to: the better model.
        rows: how many rows would go on.
        of: how many there are.
    """

    to: Candidate
    rows: int
    of: int

    @property
    def share(self) -> float:
        """Rows that would be answered twice, of all."""
        return self.rows / self.of


def cascade_of(step: Escalation, steer: Steer, candidates: Sequence[Candidate]) -> dict[str, float]:
    """The route's cascade behind a logged step, which had the prices of the moment in it."""
    price = _price(steer, _find(candidates, step.to))
    found = {"threshold": min(max(round(step.threshold + price, 9), 0.0), 1.0)}
    if step.gain is not None:
        found["gain"] = min(max(round(step.gain - price, 9), -1.0), 1.0)
    return found


def second(
    step: Escalation, route: Route, steer: Steer, first: Candidate, bounds: Bounds,
    candidates: Sequence[Candidate],
) -> Second | None:  # fmt: skip
    """Who would go on under a route's cascade.

    Args:
        step: the logged second step.
        route: with a cascade, as changed.
        steer: prices now.
        first: who answers first.
        bounds: what both answers together must cost at most.
        candidates: every model considered.

    Returns:
        None where the log does not say: the better model is gone, or there were too many rows to
        log each and the conditions have changed.
    """
    better, cascade = _find(candidates, step.to), route.cascade
    if better is None or cascade is None:
        return None
    price = _price(steer, better)
    threshold = cascade.threshold - price
    rows = _going(step, threshold, None if cascade.gain is None else cascade.gain + price)
    if rows is None:
        return None
    usd = first.prediction.cost_usd + better.prediction.cost_usd * rows / step.of
    if bounds.max_cost_usd is not None and usd > bounds.max_cost_usd:
        rows = 0
    return Second(better, rows, step.of)


def mixed(first: Prediction, better: Prediction, share: float) -> Prediction:
    """What is expected of an answer of which a share of rows is answered twice."""
    return Prediction(
        quality=first.quality + share * (better.quality - first.quality),
        p50_s=first.p50_s + (better.p50_s if share > 0 else 0.0),
        p95_s=first.p95_s + (better.p95_s if share > 0 else 0.0),
        cost_usd=first.cost_usd + share * better.cost_usd,
    )


def _going(step: Escalation, threshold: float, gain: float | None) -> int | None:
    """How many rows would go on; None where their values were not logged and matter."""
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
    return next((one for one in candidates if one.model == name), None)
