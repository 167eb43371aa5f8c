from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.pool.demand import Demand


def test_a_request_counts_half_after_a_half_life() -> None:
    demand = Demand(half_life_s=10.0)
    demand.note(0)
    first = demand.rate(0.0)[0]
    assert demand.rate(10.0)[0] == pytest.approx(first / 2)
    assert demand.rate(30.0)[0] == pytest.approx(first / 8)


@given(st.floats(0.5, 50.0), st.integers(0, 2))
def test_steady_traffic_is_counted_at_its_rate(rate: float, level: int) -> None:
    demand = Demand(half_life_s=20.0)
    now_s = 0.0
    for _ in range(int(200 * rate)):
        now_s += 1.0 / rate
        demand.note(level)
        demand.rate(now_s)
    assert math.isclose(demand.rate(now_s)[level], rate, rel_tol=0.1)


@given(st.floats(0.01, 10.0), st.integers(1, 20))
def test_worth_grows_with_urgency_rate_and_reload_time(reload_s: float, asked: int) -> None:
    urgency = {0: 10.0, 1: 0.3, 2: 0.002}
    urgent, patient = Demand(), Demand()
    for _ in range(asked):
        urgent.note(0)
        patient.note(1)
    assert urgent.worth(urgency, reload_s, 0.0) > patient.worth(urgency, reload_s, 0.0)
    assert urgent.worth(urgency, 2 * reload_s, 0.0) > urgent.worth(urgency, reload_s, 0.0)
    before = urgent.worth(urgency, reload_s, 0.0)
    urgent.note(0)
    assert urgent.worth(urgency, reload_s, 0.0) > before
