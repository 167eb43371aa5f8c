from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runners.active import ActiveEngine
from runners.tasks.load_check import check_fit
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

    def load(self) -> ActiveEngine:
        return ActiveEngine("stand-in", "cpu", "cpu")

    def run(self, tensors: Tensors) -> Tensors:
        self.given.append(tensors)
        if isinstance(self._outputs, Exception):
            raise self._outputs
        return self._outputs

    def close(self) -> None:
        self.closed = True


class Echo(Scorer):
    """Gives as many rows as it is told for the rows it was given."""

    def __init__(self, shape: Callable[[int], tuple[int, ...]]) -> None:
        super().__init__({})
        self._shape = shape

    def run(self, tensors: Tensors) -> Tensors:
        self.given.append(tensors)
        return {"probability": np.zeros(self._shape(len(tensors["features"])), np.float32)}


@pytest.mark.parametrize("shape", [lambda n: (n,), lambda n: (n, 1)], ids=["[n]", "[n, 1]"])
def test_a_model_that_fits_has_run_one_row_and_several_and_stays_open(
    shape: Callable[[int], tuple[int, ...]],
) -> None:
    runner = Echo(shape)
    check_fit("m", runner, TabularTask(), 8)
    rows, columns = zip(*(one["features"].shape for one in runner.given), strict=True)
    assert rows[0] == 1 < rows[1]
    assert set(columns) == {len(FEATURES)}
    assert not runner.closed


@pytest.mark.parametrize(
    "shape",
    [
        lambda n: (n, 3),
        lambda n: (3, n),
        lambda n: (1,),
        lambda n: (n + n % 2,),
        lambda n: (1, n),
        lambda n: (),
        lambda n: (n, 1, 1),
    ],
    ids=[
        "three values a row",
        "transposed",
        "always one",
        "padded",
        "one row of all",
        "none",
        "3d",
    ],
)
def test_a_model_whose_outputs_have_other_rows_does_not_load(
    shape: Callable[[int], tuple[int, ...]],
) -> None:
    runner = Echo(shape)
    with pytest.raises(LoadFailed, match="output 'probability' has shape"):
        check_fit("m", runner, TabularTask(), 8)
    assert runner.closed


def test_a_graph_that_takes_one_row_a_run_loads() -> None:
    class OneRow(Echo):
        def run(self, tensors: Tensors) -> Tensors:
            if len(tensors["features"]) > 1:
                raise RunFailed("m", "the model takes [1, 15]")
            return super().run(tensors)

    runner = OneRow(lambda n: (n,))
    check_fit("m", runner, TabularTask(), 8)
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
        check_fit("m", runner, TabularTask(), 8)
    assert runner.closed


def test_a_task_that_knows_no_example_asks_nothing() -> None:
    runner = Scorer(RuntimeError("never called"))
    check_fit("m", runner, PassThrough(), 8)
    assert runner.given == []


def test_a_model_of_one_row_a_run_is_tried_with_one() -> None:
    runner = Echo(lambda n: (1,))
    check_fit("m", runner, TabularTask(), 1)
    assert [len(tensors["features"]) for tensors in runner.given] == [1]
    assert not runner.closed


def test_a_runner_that_fails_in_its_own_way_is_closed() -> None:
    runner = Scorer(RuntimeError("of the engine"))
    with pytest.raises(RuntimeError, match="of the engine"):
        check_fit("m", runner, TabularTask(), 8)
    assert runner.closed
