"""ONNX Runtime on an NVIDIA GPU. Never run where this was written: `make test-gpu` runs it.

Needs onnxruntime-gpu with TensorRT and CUDA. Every comparison of speed is with something measured
in the same test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners.engines.onnx.session import CUDA, OnnxRunner, unavailable
from runners.engines.tensorrt import TENSORRT, TensorRTRunner
from runners.optimize.chain import CalibrationSet, run_chain
from services.artifacts import store
from tests.runners.optimize.conftest import SIDE
from turnout.catalog import Artifact
from turnout.catalog.engines import TensorRT
from turnout.errors import ArtifactInvalid

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu() -> None:
    for provider in (CUDA, TENSORRT):
        if (reason := unavailable(provider)) is not None:
            pytest.skip(reason)


def images(rows: int) -> dict[str, np.ndarray]:
    values = np.random.default_rng(rows).uniform(-1, 1, (rows, 3, SIDE, SIDE))
    return {"image": values.astype(np.float32)}


def on_cpu(folder: Path, given: dict[str, np.ndarray]) -> np.ndarray:
    runner = OnnxRunner("cpu", folder / "model.onnx")
    runner.load()
    return runner.run(given)["logits"]


def options(**given: Any) -> TensorRT:
    return TensorRT(engine="tensorrt", strict=True, **given)


def median_ms(run: Callable[[], Any], times: int = 200) -> float:
    spent: list[float] = []
    for _ in range(times):
        started_s = time.perf_counter()
        run()
        spent.append((time.perf_counter() - started_s) * 1e3)
    return float(np.median(spent))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 3e-2)])
def test_tensorrt_agrees_with_the_cpu_at_every_batch_of_its_profile(
    classifier: Path,
    tmp_path: Path,
    precision: str,
    tolerance: float,
) -> None:
    runner = TensorRTRunner(
        "trt", classifier / "model.onnx", options(precision=precision), cache=tmp_path / "engines"
    )
    assert runner.load().provider == TENSORRT
    for rows in (1, 3, 8, 64):
        given = images(rows)
        expected = on_cpu(classifier, given)
        error = np.linalg.norm(runner.run(given)["logits"] - expected)
        assert error <= tolerance * np.linalg.norm(expected)


def test_an_engine_is_built_once(classifier: Path, tmp_path: Path) -> None:
    loads: list[float] = []
    for _ in range(2):
        runner = TensorRTRunner(
            "trt", classifier / "model.onnx", options(), cache=tmp_path / "engines"
        )
        loads.append(runner.load().load_s)
        runner.close()
    engines = list((tmp_path / "engines").rglob("*.engine"))
    assert len(engines) == 1
    assert loads[1] < loads[0] / 2


def test_int8_from_the_pass_runs_in_tensorrt(classifier: Path, tmp_path: Path) -> None:
    samples = [images(1) for _ in range(8)]
    stages = run_chain(
        classifier / "model.onnx",
        [("graph", {}), ("int8", {"activations": "s8", "operators": ("Conv", "Gemm")})],
        CalibrationSet(samples, "images"),
        {},
        lambda line: None,
    )
    runner = TensorRTRunner(
        "trt", stages[-1].path, options(precision="int8"), cache=tmp_path / "engines"
    )
    assert runner.load().provider == TENSORRT
    given = images(8)
    expected = on_cpu(classifier, given)
    error = np.linalg.norm(runner.run(given)["logits"] - expected)
    assert error <= 0.2 * np.linalg.norm(expected)


def test_the_tensorrt_pass_leaves_its_engine_where_the_runner_finds_it(
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    (stage,) = run_chain(
        classifier / "model.onnx", [("tensorrt", {})], CalibrationSet([], ""), {}, lambda line: None
    )
    built_s = stage.measured["build_s"]
    runner = TensorRTRunner("trt", stage.path, options())
    assert runner.load().load_s < max(built_s / 2, 1.0)


def cuda(folder: Path, **more: Any) -> OnnxRunner:
    runner = OnnxRunner("cuda", folder / "model.onnx", provider="cuda", strict=True, **more)
    assert runner.load().provider == CUDA
    return runner


def test_cuda_graphs_answer_as_plain_runs_do(classifier: Path) -> None:
    plain, graphs = cuda(classifier), cuda(classifier, cuda_graph=True)
    for rows in (1, 3, 8, 3, 1):
        given = images(rows)
        expected = plain.run(given)["logits"]
        assert np.allclose(graphs.run(given)["logits"], expected, atol=1e-4)


def test_cuda_graphs_are_no_slower_than_plain_runs(classifier: Path) -> None:
    plain, graphs = cuda(classifier), cuda(classifier, cuda_graph=True)
    given = images(8)
    for runner in (plain, graphs):
        for _ in range(20):
            runner.run(given)
    assert median_ms(lambda: graphs.run(given)) <= 1.1 * median_ms(lambda: plain.run(given))


def test_tensorrt_is_no_slower_than_cuda_on_a_real_model(tmp_path: Path) -> None:
    """EfficientNet-Lite0 at 8 rows, half precision beside CUDA in float32, run in turn."""
    artifact = Artifact(
        tag="efficientnet-lite0", recipe="efficientnet-lite", options={"variant": 0}
    )
    try:
        folder = store.resolve(artifact)
    except ArtifactInvalid as error:
        pytest.skip(str(error))
    plain = cuda(folder)
    engine = TensorRTRunner("trt", folder / "model.onnx", options(), cache=tmp_path / "engines")
    engine.load()
    values = np.random.default_rng(0).uniform(-1, 1, (8, 3, 224, 224)).astype(np.float32)
    given = {"image": values}
    expected = plain.run(given)["logits"]
    error = np.linalg.norm(engine.run(given)["logits"] - expected)
    assert error <= 3e-2 * np.linalg.norm(expected)
    assert median_ms(lambda: engine.run(given), 50) <= median_ms(lambda: plain.run(given), 50)
