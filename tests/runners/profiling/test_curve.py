from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.profiling.curve import line, profile, sizes
from turnout.errors import LoadFailed


@given(st.floats(0.01, 100), st.floats(0, 10))
def test_a_line_is_found_again(base: float, slope: float) -> None:
    points = [(float(n), base + slope * (n - 1)) for n in (1, 2, 4, 8, 16)]
    found = line(points)
    assert found == pytest.approx((base, slope), rel=1e-5, abs=1e-6)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=8))
def test_a_line_is_never_negative(times: list[float]) -> None:
    base, slope = line([(float(2**i), spent) for i, spent in enumerate(times)])
    assert base > 0
    assert slope >= 0


def test_sizes_double_and_end_at_the_largest() -> None:
    assert sizes(1) == [1]
    assert sizes(8) == [1, 2, 4, 8]
    assert sizes(12) == [1, 2, 4, 8, 12]


def test_a_text_engine_is_measured_by_prompt_and_by_sequences() -> None:
    entry = {"task": "chat", "runner": {"engine": "fake", "latency_ms": 2, "max_sequences": 2}}
    curve = profile("echo", entry, None)
    assert curve.provider == "fake"
    assert [point.units for point in curve.points] == sorted(point.units for point in curve.points)
    assert curve.base_ms > 0
    assert curve.per_token_ms >= 2.0
    assert set(curve.tokens_per_s) == {"1", "2"}


def test_a_model_that_cannot_load_says_why(tmp_path: Path) -> None:
    entry = {
        "task": "tabular",
        "runner": {"engine": "onnx"},
        "artifact": {"tag": "a", "recipe": "fraud"},
    }
    with pytest.raises(LoadFailed, match=r"could not be profiled.*model\.onnx is missing"):
        profile("a", entry, tmp_path)
