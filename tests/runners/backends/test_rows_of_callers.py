"""Nobody gets somebody else's rows, whatever a model returns: every task, alone and together."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from routing.latency import ModelLatency
from runners.backends.local_tensors import LocalTensors
from runners.engines import make
from runners.protocol import ActiveEngine, TensorRunner, Ticket
from runners.tasks.classify_text import ClassifyTextTask
from runners.tasks.embed import EmbedTask
from runners.tasks.hashed_ngrams import HashedNgrams
from runners.tasks.image import ImageTask, Preprocess
from runners.tasks.lookup import LookupTask
from runners.tasks.pass_through import PassThrough
from runners.tasks.retrieval import RecommendTask, RetrieveTask
from runners.tasks.tabular import RankTask, TabularTask
from runners.tasks.task import TensorTask
from turnout.catalog import Model
from turnout.errors import LoadFailed, RunFailed
from turnout.types import Tensors

CALLERS = 192

PICTURE = Preprocess(size=4, crop=1.0, mean=0.0, scale=1.0)
FOUND = {"top": 2, "columns": 3}

TASKS: Mapping[str, tuple[TensorTask, Mapping[str, tuple[int, ...]]]] = {
    "tabular": (TabularTask(["a", "b"]), {"probability": ()}),
    "rank": (RankTask(["a", "b"]), {"score": ()}),
    "embed": (EmbedTask(HashedNgrams(8), {"width": 4}), {"sentence": (4,)}),
    "embed of any width": (EmbedTask(HashedNgrams(8)), {"sentence": (4,)}),
    "classify-text": (ClassifyTextTask(HashedNgrams(8), ["x", "y"]), {"probabilities": (2,)}),
    "image": (ImageTask(["x", "y", "z"], PICTURE), {"logits": (3,)}),
    "recommend": (RecommendTask(FOUND), {"item": (2,), "score": (2,), "features": (2, 3)}),
    "retrieve": (
        RetrieveTask({"width": 2, **FOUND}),
        {"item": (2,), "score": (2,), "features": (2, 3)},
    ),
    "lookup": (LookupTask(9), {"text": ()}),
}
"""Each task, and the shape of one row of every output that it takes."""

RIGHT: Callable[[int, tuple[int, ...]], tuple[int, ...]] = lambda n, row: (n, *row)  # noqa: E731
WRONG: Mapping[str, Callable[[int, tuple[int, ...]], tuple[int, ...]]] = {
    "three times the rows": lambda n, row: (3 * n, *row),
    "one row more": lambda n, row: (n + 1, *row),
    "one row less": lambda n, row: (max(n - 1, 0), *row),
    "one row for all": lambda n, row: (1 if n > 1 else 2, *row),
    "another axis": lambda n, row: (n, 2, *row),
    "rows last": lambda n, row: (*(row or (5,)), n + 7),
    "no rows": lambda n, row: row,
}


class Shaped:
    """Takes anything, gives outputs of the shapes it is told."""

    def __init__(
        self,
        outputs: Mapping[str, tuple[int, ...]],
        shape: Callable[[int, tuple[int, ...]], tuple[int, ...]],
    ) -> None:
        self._outputs = outputs
        self._shape = shape

    def load(self) -> ActiveEngine:
        return ActiveEngine("stand-in", "cpu", "cpu")

    def close(self) -> None:
        pass

    def run(self, tensors: Tensors) -> Tensors:
        rows = len(next(iter(tensors.values())))
        return {
            name: np.zeros(self._shape(rows, row), np.float32)
            for name, row in self._outputs.items()
        }


class Unchecked:
    """A task that gives no example, so that a model is not tried at its load."""

    def __init__(self, task: TensorTask) -> None:
        self._task = task

    def prepare(self, tensors: Tensors) -> Tensors:
        return tensors

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        return self._task.collate(requests)

    def finish(self, outputs: Tensors) -> Tensors:
        return self._task.finish(outputs)

    def example(self, rows: int) -> Tensors | None:
        return None


async def served(runner: TensorRunner, task: TensorTask, run_s: float = 1.0) -> LocalTensors:
    local = LocalTensors("m", lambda: (runner, task), ModelLatency(run_s), clock=lambda: 0.0)
    await local.start()
    return local


def ticket() -> Ticket:
    return Ticket("t", 0, math.inf)


async def answers_of(local: LocalTensors, inputs: Sequence[Tensors]) -> list[Any]:
    asked = [local.infer(tensors, ticket()) for tensors in inputs]
    return await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize("task", TASKS)
async def test_a_model_of_the_right_shape_answers_every_task(task: str) -> None:
    one, outputs = TASKS[task]
    local = await served(Shaped(outputs, RIGHT), one)
    inputs = one.example(1)
    assert inputs is not None
    local_unchecked = await served(Shaped(outputs, RIGHT), Unchecked(one))
    for answer in await answers_of(local_unchecked, [inputs] * 5):
        assert all(len(output) == 1 for output in answer.tensors.values())
    await local.stop()
    await local_unchecked.stop()


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("task", TASKS)
async def test_a_model_of_another_shape_does_not_load(task: str, wrong: str) -> None:
    one, outputs = TASKS[task]
    with pytest.raises(LoadFailed, match="does not fit"):
        await served(Shaped(outputs, WRONG[wrong]), one)


@pytest.mark.parametrize("run_s", [1e-5, 1.0], ids=["on the loop", "on a thread"])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("task", TASKS)
async def test_a_model_of_another_shape_is_an_error_for_every_caller(
    task: str, wrong: str, run_s: float
) -> None:
    one, outputs = TASKS[task]
    local = await served(Shaped(outputs, WRONG[wrong]), Unchecked(one), run_s)
    inputs = one.example(1)
    assert inputs is not None
    for answer in await answers_of(local, [inputs] * 7):
        assert isinstance(answer, RunFailed)
        assert "has shape" in str(answer) or "IndexError" in str(answer)
    await local.stop()


async def test_rows_that_are_right_alone_and_wrong_together_are_run_alone() -> None:
    class OneAtATime(Shaped):
        def run(self, tensors: Tensors) -> Tensors:
            return {"y": tensors["x"][:1] * 2}

    local = await served(OneAtATime({}, RIGHT), PassThrough())
    inputs = [{"x": np.array([float(row)], np.float32)} for row in range(CALLERS)]
    answers = await answers_of(local, inputs)
    assert [answer.tensors["y"].tolist() for answer in answers] == [
        [2.0 * row] for row in range(CALLERS)
    ]
    await local.stop()


def write_three_classes(path: Any) -> None:
    """A graph of three classes whose tensors are named as the tabular task's."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["probability"])],
        "three",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.ones((2, 3), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


async def test_callers_of_a_graph_of_three_classes_each_get_an_error(tmp_path: Any) -> None:
    write_three_classes(tmp_path / "model.onnx")
    (tmp_path / "task.json").write_text(json.dumps({"columns": ["a", "b"]}))
    artifact = {"tag": "three", "recipe": "three"}
    entry = {"task": "tabular", "runner": {"engine": "onnx"}, "artifact": artifact}
    model = Model.model_validate(entry)
    with pytest.raises(LoadFailed, match=r"'probability' has shape \[1, 3\]"):
        await served(make("m", model, tmp_path), TabularTask.load(tmp_path))  # type: ignore[arg-type]

    runner = make("m", model, tmp_path)
    local = await served(runner, Unchecked(TabularTask.load(tmp_path)))  # type: ignore[arg-type]
    rows = np.random.default_rng(0).random((CALLERS, 1, 2), np.float32)
    answers = await answers_of(local, [{"features": row} for row in rows])
    assert [type(answer) for answer in answers] == [RunFailed] * CALLERS
    await local.stop()
