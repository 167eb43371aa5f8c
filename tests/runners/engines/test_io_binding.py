"""Bound runs on the CPU: the same code as on CUDA, without the graphs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runners.engines.onnx.io_binding import BoundRuns, filled
from runners.engines.onnx.session import CPU, open_session
from tests.contracts import tiny_models
from turnout.errors import LoadFailed, RunFailed


@pytest.fixture
def session(tmp_path):
    tiny_models.write_onnx(tmp_path)
    return open_session("tiny", tmp_path / "model.onnx", [(CPU, {})], threads=1)


def test_answers_are_those_of_a_plain_run_at_every_size(session):
    bound = BoundRuns("tiny", session, "cpu")
    for rows in (1, 2, 3, 5, 8, 3, 1):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
        expected = dict(zip(("y", "total"), session.run(None, {"x": x}), strict=True))
        found = bound.run({"x": x})
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].shape == value.shape
            assert np.array_equal(found[name], value)


def test_an_answer_is_not_overwritten_by_the_next(session):
    bound = BoundRuns("tiny", session, "cpu")
    first = bound.run({"x": np.ones((2, 3), np.float32)})["y"].copy()
    kept = bound.run({"x": np.ones((2, 3), np.float32)})["y"]
    bound.run({"x": np.zeros((2, 3), np.float32)})
    assert np.array_equal(kept, first)


def test_a_missing_input_is_named(session):
    with pytest.raises(RunFailed, match="input 'x' is missing"):
        BoundRuns("tiny", session, "cpu").run({"z": np.ones((1, 3), np.float32)})


def test_another_free_axis_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "free",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "length"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    session = open_session("free", tmp_path / "model.onnx", [(CPU, {})], threads=1)
    with pytest.raises(LoadFailed, match=r"only free axis is their rows; 'x'.*Turn cuda_graph off"):
        BoundRuns("free", session, "cpu")


def test_rows_are_filled_up_to_a_power_of_two():
    assert [filled(rows) for rows in (1, 2, 3, 4, 5, 9)] == [1, 2, 4, 4, 8, 16]
