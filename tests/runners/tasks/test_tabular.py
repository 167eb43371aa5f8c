from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runners.tasks import load_task
from turnout.errors import ConfigError, InvalidRequest
from turnout.types import Task

_TASK = load_task(Task.TABULAR, Path())
_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays(np.float32, st.tuples(st.integers(1, 20), st.just(15)), elements=_FINITE))
def test_finite_rows_pass_unchanged(features: np.ndarray) -> None:
    assert _TASK.prepare({"features": features})["features"] is features


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_named_by_row_and_column(value: float) -> None:
    features = np.zeros((4, 15), np.float32)
    features[2, 3] = value
    with pytest.raises(InvalidRequest, match="row 2: CUSTOMER_ID_NB_TX_1DAY_WINDOW") as caught:
        _TASK.prepare({"features": features})
    assert caught.value.param == "features"


@pytest.mark.parametrize(
    ("features", "what"),
    [
        (np.zeros((2, 14), np.float32), r"not \[2, 14\].*TX_AMOUNT, TX_DURING_WEEKEND"),
        (np.zeros(15, np.float32), r"not \[15\]"),
        (np.zeros((0, 15), np.float32), "n at least 1"),
        (np.zeros((2, 15), np.float64), "must be FP32, not float64"),
        (np.zeros((2, 15), np.int64), "must be FP32"),
    ],
)
def test_a_wrong_shape_or_type_is_refused(features: np.ndarray, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        _TASK.prepare({"features": features})


def test_requests_are_joined_in_order() -> None:
    parts = [{"features": np.full((n, 15), n, np.float32)} for n in (2, 1, 3)]
    assert _TASK.collate(parts)["features"][:, 0].tolist() == [2, 2, 1, 3, 3, 3]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_probabilities_come_out_one_a_row(shape: tuple[int, ...]) -> None:
    outputs = _TASK.finish({"probability": np.full(shape, 0.25)})
    assert outputs["probability"].shape == (3,)
    assert outputs["probability"].dtype == np.float32


def test_chat_is_not_made_of_tensors() -> None:
    with pytest.raises(ConfigError, match="text engines"):
        load_task(Task.CHAT, Path())
