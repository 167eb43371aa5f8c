from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runners.engines.onnx.graph_cache import mapped_graph
from runners.engines.onnx.session import OnnxRunner
from services.artifacts.mapped_weights import map_graphs
from services.artifacts.store import files_of, hash_of
from services.fleet.memory_estimate import footprint
from turnout.catalog import Catalog
from turnout.catalog.reading import parse

CATALOG = """version: 1
gateway: {memory_budget: 4GiB}
classes: {realtime: {deadline_ms: 100, priority: 0}}
models:
  big: {task: tabular, runner: {engine: onnx}, artifact: {tag: big, recipe: made-here}}
routes:
  r: {task: tabular, candidates: [big], latency_class: realtime}
"""


@pytest.fixture
def model_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One linear layer of 4 MB in a store of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "home" / "models" / "big" / "1"
    folder.mkdir(parents=True)
    weights = np.random.default_rng(0).random((15, 70_000), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "w"], ["all"]),
            helper.make_node("ReduceMean", ["all"], ["probability"], axes=[1]),
        ],
        "big",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 15])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    manifest = {
        "recipe": "made-here",
        "options": {},
        "files": {name: hash_of(folder / name) for name in files_of(folder)},
    }
    (folder / "artifact.json").write_text(json.dumps(manifest))
    return folder / "model.onnx"


def catalog() -> Catalog:
    return parse(CATALOG, "test")


def test_weights_are_saved_to_be_mapped_once_and_answer_the_same(model_path: Path) -> None:
    told: list[str] = []
    assert map_graphs(catalog(), told.append) == 1
    assert map_graphs(catalog(), told.append) == 0
    assert mapped_graph(model_path) is not None
    rows = {"features": np.random.default_rng(1).random((3, 15), np.float32)}
    alone, shared = OnnxRunner("big", model_path), OnnxRunner("big", model_path)
    shared.share()
    answers = []
    for runner in (alone, shared):
        runner.load()
        answers.append(runner.run(rows)["probability"])
        runner.close()
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)


def test_a_damaged_mapped_graph_costs_memory_not_the_answer(model_path: Path) -> None:
    map_graphs(catalog(), lambda line: None)
    graph = mapped_graph(model_path)
    assert graph is not None
    graph.write_bytes(b"no graph")
    runner = OnnxRunner("big", model_path)
    runner.share()
    assert runner.load().provider == "CPUExecutionProvider"
    runner.close()


def test_a_mapped_model_needs_little_more_to_load_than_it_takes(model_path: Path) -> None:
    model = catalog().models["big"]
    size = model_path.stat().st_size
    plain = footprint("big", model)
    assert plain.resident_bytes > size
    map_graphs(catalog(), lambda line: None)
    assert footprint("big", model).extra_bytes < plain.extra_bytes - size


def test_without_a_budget_nothing_is_saved(model_path: Path) -> None:
    free = parse(CATALOG.replace("gateway: {memory_budget: 4GiB}\n", ""), "test")
    assert map_graphs(free, lambda line: None) == 0
    assert mapped_graph(model_path) is None
