from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.latency import Busy, Demand, ModelLatency


def test_the_curve_is_learned_from_runs() -> None:
    latency = ModelLatency(0.05, 0.05)
    rng = np.random.default_rng(0)
    for _ in range(500):
        rows = int(rng.integers(1, 64))
        latency.observe_run(rows, (0.002 + 0.0005 * (rows - 1)) * rng.lognormal(0, 0.1))
    for rows in (1, 8, 32, 64):
        assert latency.run_s(rows) == pytest.approx(0.002 + 0.0005 * (rows - 1), rel=0.15)


def test_it_follows_a_machine_that_becomes_slower() -> None:
    latency = ModelLatency(0.01)
    for run_s in [0.01] * 300 + [0.05] * 600:
        latency.observe_run(1, run_s)
    assert latency.run_s(1) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_a_predicted_p95_holds_for_95_percent(sigma: float) -> None:
    latency = ModelLatency(0.01)
    rng = np.random.default_rng(1)
    held = []
    for index in range(6000):
        spread = latency.predict(Demand(), Busy())
        actual = 0.02 * rng.lognormal(0, sigma)
        if index > 2000:
            held.append(actual <= spread.p95_s)
        latency.observe_answer(spread, actual)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_what_is_queued_makes_the_answer_later() -> None:
    latency = ModelLatency(0.01, 0.001)
    alone = latency.predict(Demand(), Busy(batch_units=8)).p50_s
    behind = latency.predict(Demand(), Busy(queued_units=80, running=1, batch_units=8)).p50_s
    loading = latency.predict(Demand(), Busy(load_in_s=3.0)).p50_s
    assert behind > alone + 10 * latency.run_s(8) * 0.9
    assert loading >= 3.0


def test_a_generation_waits_for_a_slot() -> None:
    latency = ModelLatency(0.05, 0.001, 0.02)
    free = latency.predict(Demand(10, 50), Busy(running=1, lanes=4)).p50_s
    full = latency.predict(Demand(10, 50), Busy(running=4, lanes=4)).p50_s
    assert full > free + 0.2


@given(
    st.lists(st.tuples(st.integers(1, 512), st.floats(1e-6, 10.0)), max_size=80),
    st.integers(1, 512),
    st.integers(0, 5000),
)
def test_predictions_stay_positive_and_ordered(
    seen: list[tuple[int, float]], units: int, queued: int
) -> None:
    latency = ModelLatency(0.01, 0.001)
    for rows, run_s in seen:
        latency.observe_run(rows, run_s)
        latency.observe_answer(latency.predict(Demand(), Busy()), run_s)
    spread = latency.predict(Demand(units), Busy(queued_units=queued, running=1, batch_units=64))
    assert 0 < spread.p50_s <= spread.p95_s <= spread.p99_s < 1e9
    assert spread.at(0.5) <= spread.at(0.95) <= spread.at(0.999)
