from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.batching.run_time_median import RunTimeMedian


def test_nothing_is_known_before_the_first_run_of_a_size() -> None:
    typical = RunTimeMedian()
    assert typical.run_s(1) is None
    typical.observe_run(1, 2e-5)
    assert typical.run_s(1) == 2e-5
    assert typical.run_s(64) is None


def test_a_few_interrupted_runs_change_little() -> None:
    typical = RunTimeMedian()
    for number in range(500):
        typical.observe_run(1, 0.02 if number % 10 == 9 else 3e-5)
    assert (typical.run_s(1) or 1.0) < 6e-5


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_it_follows_a_lasting_change(first_s: float, then_s: float) -> None:
    typical = RunTimeMedian()
    typical.observe_run(8, first_s)
    for _ in range(200):
        typical.observe_run(8, then_s)
    assert typical.run_s(8) == pytest.approx(then_s, rel=0.25)
