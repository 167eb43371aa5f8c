from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision.budget_control import Steer
from routing.decision.constraints import Bounds
from routing.decision.log_schema import Escalation
from routing.replay.cascade import cascade_of, mixed, second
from turnout.catalog import Route
from turnout.types import Candidate, Prediction, Task

FREE = Steer(0.9, 0.9)
BOUNDS = Bounds(1.0)
FIRST = Candidate("small", Prediction(0.8, 0.01, 0.02, 1e-6), True)
BETTER = Candidate("large", Prediction(0.9, 0.05, 0.09, 5e-6), True)
PAIR = (FIRST, BETTER)
STEP = Escalation(
    "large", 2, 4, 0.6, 0.5, True, gain=0.1, confidences=(0.5, 0.9, 0.55, 0.7),
    gains=(0.2, 0.05, None, 0.15),
)  # fmt: skip


def route(**cascade: float) -> Route:
    return Route(
        task=Task.TABULAR, candidates=("small", "large"), latency_class="a", policy="cascade",
        cascade={"threshold": 0.6} | cascade,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cascade", "steer", "rows"),
    [
        ({}, FREE, 2),
        ({"threshold": 0.8}, FREE, 3),
        ({"threshold": 0.0}, FREE, 0),
        ({}, replace(FREE, share_price=0.07), 1),
        ({"gain": 0.1}, FREE, 3),  # two gains, and the row nothing was learned of, by confidence
        ({"gain": 0.1}, replace(FREE, usd_price=1.6e4), 1),
        ({"gain": 0.5}, FREE, 1),
    ],
)
def test_who_goes_on_follows_the_rows_own_values(
    cascade: dict[str, float], steer: Steer, rows: int
) -> None:
    found = second(STEP, route(**cascade), steer, FIRST, BOUNDS, PAIR)
    assert found is not None
    assert (found.to.model, found.rows, found.of) == ("large", rows, 4)


def test_the_cost_limit_holds_for_both_answers() -> None:
    tight = replace(BOUNDS, max_cost_usd=2e-6)
    found = second(STEP, route(), FREE, FIRST, tight, PAIR)
    assert found is not None
    assert found.rows == 0


def test_many_rows_are_known_only_under_the_same_conditions() -> None:
    many = replace(STEP, confidences=None, gains=None, gain=None)
    same = second(many, route(), FREE, FIRST, BOUNDS, PAIR)
    assert same is not None
    assert same.rows == 2
    assert second(many, route(threshold=0.7), FREE, FIRST, BOUNDS, PAIR) is None
    assert second(STEP, route(), FREE, FIRST, BOUNDS, (FIRST,)) is None


@given(st.floats(0.0, 1.0), st.floats(0.0, 0.5), st.floats(-0.5, 0.5))
def test_the_prices_of_the_moment_come_off_again(
    threshold: float, price: float, gain: float
) -> None:
    steer = replace(FREE, share_price=price)
    logged = replace(STEP, threshold=threshold - price, gain=gain + price)
    found = cascade_of(logged, steer, PAIR)
    assert found["threshold"] == pytest.approx(threshold, abs=1e-8)
    assert found["gain"] == pytest.approx(gain, abs=1e-8)


def test_an_answer_of_two_models_is_worth_their_mixture() -> None:
    half = mixed(FIRST.prediction, BETTER.prediction, 0.5)
    assert half.quality == pytest.approx(0.85)
    assert half.cost_usd == pytest.approx(3.5e-6)
    assert half.p50_s == pytest.approx(0.06)
    assert mixed(FIRST.prediction, BETTER.prediction, 0.0).p50_s == 0.01
