from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runners.health.slowdown import Pace


def test_a_model_that_becomes_ten_times_slower_is_seen_and_seen_to_recover() -> None:
    pace = Pace()
    for _ in range(200):
        pace.observe(0.01, 0.02)
    assert pace.slow_reason() is None
    for _ in range(40):
        pace.observe(0.1, 0.02)
    assert "times what they did" in (pace.slow_reason() or "")
    for _ in range(10_000):
        pace.observe(0.1, 0.02)
    assert pace.slow_reason() is not None
    for _ in range(60):
        pace.observe(0.01, 0.02)
    assert pace.slow_reason() is None


@given(st.lists(st.floats(0.5, 2.0), max_size=300))
def test_usual_variation_is_not_slowness(ratios: list[float]) -> None:
    pace = Pace()
    for ratio in ratios:
        pace.observe(ratio, 1.0)
    assert pace.slow_reason() is None
    pace.observe(1.0, 0.0)
