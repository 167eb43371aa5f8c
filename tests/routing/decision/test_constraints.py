"""When nobody may answer: what is the caller's to change, and what only time changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision.constraints import Bounds, choose_anyway, why_not
from turnout.errors import DeadlineUnreachable, LimitUnreachable
from turnout.types import Candidate, Prediction

BOUNDS = Bounds(0.1, 0.99, infeasible="refuse")


def candidate(name: str, bounds: Bounds, **changes: object) -> Candidate:
    base = Prediction(0.7, 0.02, 0.04, 2e-6, 0.06, 0.02)
    prediction = replace(base, **{k: v for k, v in changes.items() if k != "broken"})
    reason = why_not(prediction, bounds)
    return Candidate(name, prediction, reason is None, reason, bool(changes.get("broken")))


@pytest.mark.parametrize(
    ("bounds", "param", "nearest", "says"),
    [
        (replace(BOUNDS, max_cost_usd=1e-6), "max_cost_usd", 2e-6, "small, is expected to cost"),
        (replace(BOUNDS, min_quality=0.95), "min_quality", 0.9, "the best, large, reaches 0.9"),
        (
            replace(BOUNDS, max_cost_usd=3e-6, min_quality=0.8),
            "max_cost_usd",
            None,
            "max_cost_usd and min_quality together",
        ),
        (replace(BOUNDS, deadline_in_s=0.01), "deadline_ms", 20.0, "about 20 ms"),
    ],
)
def test_a_limit_that_never_holds_is_the_callers(
    bounds: Bounds, param: str, nearest: float | None, says: str
) -> None:
    pair = [
        candidate("small", bounds),
        candidate("large", bounds, quality=0.9, cost_usd=5e-6, p50_s=0.05),
    ]
    with pytest.raises(LimitUnreachable, match=says) as caught:
        choose_anyway(bounds, pair)
    assert caught.value.param == param
    assert caught.value.nearest == (None if nearest is None else pytest.approx(nearest))


def test_a_deadline_lost_to_what_is_ahead_or_to_chance_is_worth_a_retry() -> None:
    bounds = replace(BOUNDS, deadline_in_s=0.03)
    unlikely = [candidate("small", bounds)]
    busy = [candidate("small", bounds, p50_s=0.2, p99_s=0.4, waited=True)]
    for pair in (unlikely, busy):
        with pytest.raises(DeadlineUnreachable) as caught:
            choose_anyway(bounds, pair)
        assert caught.value.retry_after_s > 0


def test_a_limit_that_a_broken_model_would_keep_is_worth_a_retry() -> None:
    bounds = replace(BOUNDS, max_cost_usd=3e-6)
    pair = [
        candidate("small", bounds, broken=True),
        candidate("large", bounds, quality=0.9, cost_usd=5e-6),
    ]
    with pytest.raises(DeadlineUnreachable, match="only small keeps"):
        choose_anyway(bounds, pair)


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(1e-9, 1.0)), min_size=1, max_size=4),
    st.floats(1e-9, 1.0),
    st.floats(0.01, 0.99),
)
def test_the_nearest_value_is_one_that_is_kept(
    pool: list[tuple[float, float]], max_cost_usd: float, min_quality: float
) -> None:
    bounds = replace(
        BOUNDS, infeasible="fastest", max_cost_usd=max_cost_usd, min_quality=min_quality
    )

    def judged(with_: Bounds) -> list[Candidate]:
        return [
            candidate(str(i), with_, quality=quality, cost_usd=usd)
            for i, (quality, usd) in enumerate(pool)
        ]

    try:
        choose_anyway(bounds, judged(bounds))
    except LimitUnreachable as error:
        if error.param == "max_cost_usd" and error.nearest is not None:
            kept = replace(bounds, max_cost_usd=error.nearest, min_quality=None)
            choose_anyway(kept, judged(kept))
        if error.param == "min_quality":
            kept = replace(bounds, max_cost_usd=None, min_quality=error.nearest)
            choose_anyway(kept, judged(kept))
