"""Constraints on candidates (deadline, cost, quality floor), and the choice when none keeps them.

Pure functions of candidates and bounds, so that a logged decision can be decided again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from routing.decision.policy import Choice, best, fastest, shown_ms
from turnout.errors import DeadlineUnreachable, LimitUnreachable, LoadFailed
from turnout.types import Candidate, Prediction

_MIN_RETRY_S = 0.05


@dataclass(slots=True)
class Bounds:
    """The bounds that an answer must keep.

    Attributes:
        deadline_in_s: time there is for it.
        percentile: share of such answers that must hold the deadline.
        max_cost_usd: the caller's limit; None is none.
        min_quality: the caller's limit; None is none.
        floor: least expected quality, the caller's or the route's.
        infeasible: the latency class's rule for when no candidate keeps all bounds.
    """

    deadline_in_s: float
    percentile: float = 0.95
    max_cost_usd: float | None = None
    min_quality: float | None = None
    floor: float = 0.0
    infeasible: Literal["refuse", "fastest", "queue"] = "fastest"


def seconds_at(prediction: Prediction, percentile: float) -> float:
    """Return the predicted quantile that is at least ``percentile``; p99 beyond it."""
    if percentile <= 0.5:
        return prediction.p50_s
    return prediction.p95_s if percentile <= 0.95 else prediction.p99_s


def why_not(prediction: Prediction, bounds: Bounds) -> str | None:
    """Return the first bound that a candidate would break, as a sentence; None if it keeps all."""
    needed_s = seconds_at(prediction, bounds.percentile)
    if needed_s > bounds.deadline_in_s:
        return (
            f"predicted p{bounds.percentile * 100:g} of {shown_ms(needed_s)} is over the "
            f"deadline of {shown_ms(bounds.deadline_in_s)}"
        )
    limit = bounds.max_cost_usd
    if limit is not None and prediction.cost_usd > limit:
        return f"cost of {prediction.cost_usd:.3g} USD is over the limit of {limit:.3g} USD"
    if prediction.quality < bounds.floor:
        return f"expected quality {prediction.quality:.2f} is under the floor of {bounds.floor:.2f}"
    return None


def choose_anyway(bounds: Bounds, candidates: Sequence[Candidate]) -> Choice:
    """Choose by the latency class's rule when no candidate is feasible.

    Raises:
        LoadFailed: every candidate is out of service.
        LimitUnreachable: none will ever keep the caller's own limits, or the deadline.
        DeadlineUnreachable: none does now: one that would is out of service, or too much is ahead
            and the class says to refuse.
    """
    able = [c for c in candidates if not c.broken]
    if not able:
        first = candidates[0]
        raise LoadFailed(first.model, first.why_not or "out of service")
    within = [c for c in able if keeps_limits(c, bounds)]
    if not within:
        _refuse_limits(bounds, able, candidates)
    if bounds.infeasible == "refuse":
        if (never := never_in_time(within, bounds.deadline_in_s)) is not None:
            raise never
        soonest_s = min(c.prediction.p50_s for c in within)
        late_s = max(soonest_s - bounds.deadline_in_s, _MIN_RETRY_S)
        why = "; ".join(f"{c.model}: {c.why_not}" for c in within)
        raise DeadlineUnreachable(
            f"no candidate can answer in time ({why}); retry in {late_s:.2g} s or allow a "
            "longer deadline",
            retry_after_s=late_s,
        )
    if bounds.infeasible == "queue":
        choice = best(within, 1.0)
        why = f"no candidate is sure to hold the deadline; this class waits: {choice.reason}"
        return Choice(choice.candidate, "queued", why)
    choice = fastest(within, 1.0)
    why = f"no candidate is sure to hold the deadline; fastest instead: {choice.reason}"
    return Choice(choice.candidate, "fastest_infeasible", why)


def never_in_time(candidates: Sequence[Candidate], deadline_in_s: float) -> LimitUnreachable | None:
    """Return the error for a deadline that even an idle fleet would probably miss.

    Returns:
        None where a candidate waits for other requests, or is probably in time.
    """
    able = [c.prediction for c in candidates if not c.broken]
    if not able or any(p.waited or p.p50_s <= deadline_in_s for p in able):
        return None
    nearest_s = min(prediction.p50_s for prediction in able)
    return LimitUnreachable(
        f"deadline_ms: {shown_ms(deadline_in_s)} is less than any candidate takes with nothing "
        f"ahead of it; the fastest needs about {shown_ms(nearest_s)}",
        param="deadline_ms",
        nearest=nearest_s * 1e3,
    )


def _refuse_limits(
    bounds: Bounds, able: Sequence[Candidate], candidates: Sequence[Candidate]
) -> NoReturn:
    """Refuse a request whose own limits no candidate in service keeps.

    Raises:
        DeadlineUnreachable: a candidate that is out of service would keep them.
        LimitUnreachable: no candidate would keep them.
    """
    away = [c.model for c in candidates if c.broken and keeps_limits(c, bounds)]
    if away:
        raise DeadlineUnreachable(
            f"only {', '.join(away)} keeps the request's own limits, and is out of service; retry, "
            "or relax max_cost_usd or min_quality",
            retry_after_s=1.0,
        )
    cheapest = min(able, key=lambda c: c.prediction.cost_usd)
    finest = max(able, key=lambda c: c.prediction.quality)
    usd, quality = cheapest.prediction.cost_usd, finest.prediction.quality
    if bounds.max_cost_usd is not None and usd > bounds.max_cost_usd:
        raise LimitUnreachable(
            f"max_cost_usd: {bounds.max_cost_usd:.3g} is less than any candidate costs; the "
            f"cheapest, {cheapest.model}, is expected to cost {usd:.6g}",
            param="max_cost_usd",
            nearest=usd,
        )
    if bounds.min_quality is not None and quality < bounds.min_quality:
        raise LimitUnreachable(
            f"min_quality: {bounds.min_quality:g} is more than any candidate is expected to reach; "
            f"the best, {finest.model}, reaches {math.floor(quality * 1e4) / 1e4:g}",
            param="min_quality",
            nearest=quality,
        )
    why = "; ".join(f"{c.model}: {c.why_not}" for c in able)
    raise LimitUnreachable(
        f"no candidate keeps max_cost_usd and min_quality together ({why}); relax one of them",
        param="max_cost_usd",
    )


def keeps_limits(candidate: Candidate, bounds: Bounds) -> bool:
    """Return whether a candidate keeps the caller's limits on cost and quality."""
    prediction = candidate.prediction
    cheap = bounds.max_cost_usd is None or prediction.cost_usd <= bounds.max_cost_usd
    good = bounds.min_quality is None or prediction.quality >= bounds.min_quality
    return cheap and good
