from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runners.active import Active
from runners.tasks.fitting import check_fit
from runners.tasks.pass_through import PassThrough
from runners.tasks.tabular import FEATURES, TabularTask
from turnout.errors import LoadFailed, RunFailed
from turnout.types import Tensors


class Scorer:
    """Gives whatever it was made with, and remembers what it was given."""

    def __init__(self, outputs: dict[str, Any] | Exception) -> None:
        self._outputs = outputs
        self.given: list[Tensors] = []
        self.closed = False

    def load(self) -> Active:
        return Active("stand-in", "cpu", "cpu")

    def run(self, tensors: Tensors) -> Tensors:
        self.given.append(tensors)
        if isinstance(self._outputs, Exception):
            raise self._outputs
        return self._outputs

    def close(self) -> None:
        self.closed = True


def test_a_model_that_fits_has_run_once_and_stays_open() -> None:
    runner = Scorer({"probability": np.array([0.5], np.float32)})
    check_fit("m", runner, TabularTask())
    assert [one["features"].shape for one in runner.given] == [(1, len(FEATURES))]
    assert not runner.closed


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (
            RunFailed("m", "input 'features' has shape [1, 15], the model takes [any, 10]"),
            "any, 10",
        ),
        ({"score": np.array([0.5])}, "no output named 'probability'"),
        ({"probability": [{0: 0.4, 1: 0.6}]}, "its outputs cannot be read"),  # zipmap
    ],
    ids=["inputs", "name", "value"],
)
def test_a_model_that_does_not_fit_is_closed_and_says_what_to_do(
    outputs: dict[str, Any] | Exception, said: str
) -> None:
    runner = Scorer(outputs)
    with pytest.raises(LoadFailed, match=rf"does not fit TabularTask: .*{said}.*export it again"):
        check_fit("m", runner, TabularTask())
    assert runner.closed


def test_a_task_that_knows_no_example_asks_nothing() -> None:
    runner = Scorer(RuntimeError("never called"))
    check_fit("m", runner, PassThrough())
    assert runner.given == []
