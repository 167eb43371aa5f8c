from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision.confidence import of_rows, of_text
from turnout.types import Task


@given(st.lists(st.floats(-50.0, 0.0), min_size=1, max_size=50))
def test_a_texts_confidence_is_a_probability_and_blind_to_length(logprobs: list[float]) -> None:
    once = of_text(logprobs)
    assert once is not None
    assert 0.0 <= once <= 1.0
    assert of_text(logprobs * 3) == pytest.approx(once)


def test_confidence_by_task() -> None:
    assert of_text([math.log(0.5), math.log(0.5)]) == pytest.approx(0.5)
    assert of_text([]) is None
    rows = {"probability": np.array([0.1, 0.5, 0.8], np.float32)}
    assert of_rows(Task.TABULAR, rows).tolist() == pytest.approx([0.9, 0.5, 0.8])
    assert of_rows(Task.IMAGE, {"score": np.array([0.3], np.float32)}).tolist() == [
        pytest.approx(0.3)
    ]
    assert of_rows(Task.EMBED, {"embedding": np.ones((2, 4), np.float32)}).tolist() == [1.0, 1.0]
