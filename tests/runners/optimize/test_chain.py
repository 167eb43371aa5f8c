"""Passes over a real, small graph: what they write, what the cache keeps, what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from runners.optimize.chain import CalibrationSet, Chain, PassResult, run_chain
from runners.optimize.registry import CHAINS, PASSES, complete_options, load_pass
from tests.runners.optimize.conftest import SIDE
from turnout.errors import ArtifactInvalid, ConfigError
from turnout.settings import PROJECT

_ROOT = PROJECT


def samples(count: int = 12) -> CalibrationSet:
    random = np.random.default_rng(5)
    rows = [{"image": random.uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32)}
            for _ in range(count)]  # fmt: skip
    return CalibrationSet(rows, f"digest of {count}")


def run(folder: Path, chain: Chain, calibrating: CalibrationSet | None = None) -> list[PassResult]:
    lines: list[str] = []
    return run_chain(
        folder / "model.onnx", chain, calibrating or samples(), {"engine": "onnx"}, lines.append
    )


def answers(path: Path) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = np.concatenate([one["image"] for one in samples().samples])
    return session.run(["logits"], {"image": rows})[0]


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def test_graph_names_every_node_and_changes_no_answer(classifier: Path) -> None:
    (stage,) = run(classifier, [("graph", {})])
    assert all(node.name for node in onnx.load(str(stage.path)).graph.node)
    assert np.allclose(answers(stage.path), answers(classifier / "model.onnx"), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"method": "percentile"}, {"method": "entropy"},
                                     {"activations": "s8"}, {"keep_ends": True}])  # fmt: skip
def test_int8_answers_nearly_the_same(
    classifier: Path, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _, stage = run(classifier, [("graph", {}), ("int8", options)])
    assert capsys.readouterr().out == ""  # it belongs to the report
    expected = answers(classifier / "model.onnx")
    error = np.linalg.norm(answers(stage.path) - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.2
    assert "QuantizeLinear" in kinds(stage.path)
    assert stage.measured["kept_in_float32"] == (2 if options.get("keep_ends") else 0)


def test_int8_mixed_leaves_nodes_in_float32_until_the_error_is_small(classifier: Path) -> None:
    loose = run(classifier, [("graph", {}), ("int8-mixed", {"max_error": 1.0})])[-1]
    tight = run(classifier, [("graph", {}), ("int8-mixed", {"max_error": 1e-9, "max_kept": 1.0})])
    assert loose.measured["kept_in_float32"] == []
    assert len(tight[-1].measured["kept_in_float32"]) == 3
    assert tight[-1].measured["relative_error"] < 1e-4 < loose.measured["relative_error"]
    assert set(loose.measured["sensitivity"]) == set(tight[-1].measured["kept_in_float32"])


def test_int8_dynamic_and_fp16_answer_nearly_the_same(classifier: Path) -> None:
    expected = answers(classifier / "model.onnx")
    for name in ("int8-dynamic", "fp16"):
        stage = run(classifier, [("graph", {}), (name, {})])[-1]
        error = np.linalg.norm(answers(stage.path) - expected) / np.linalg.norm(expected)
        assert 0 < error < 0.1, name


def test_what_was_made_is_kept_and_goes_by_all_that_shapes_it(classifier: Path) -> None:
    chain = [("graph", {}), ("int8", {})]
    first = run(classifier, chain)
    again = run(classifier, chain)
    assert [one.cached for one in first + again] == [False, False, True, True]
    assert [one.sha256 for one in first] == [one.sha256 for one in again]
    other_option = run(classifier, [("graph", {}), ("int8", {"activations": "s8"})])
    other_inputs = run(classifier, chain, samples(9))
    assert [one.cached for one in other_option] == [True, False]
    assert [one.cached for one in other_inputs] == [True, False]


def test_a_damaged_cache_is_made_again(classifier: Path) -> None:
    (first,) = run(classifier, [("graph", {})])
    first.path.write_bytes(b"damaged")
    (again,) = run(classifier, [("graph", {})])
    assert not again.cached
    assert again.sha256 == first.sha256


_KILLED = """
import os, sys
from pathlib import Path
from runners.optimize.chain import CalibrationSet, run_chain
def report(line):
    if line.startswith("calibrating"):
        os.kill(os.getpid(), 9)
run_chain(Path(sys.argv[1]), [("graph", {}), ("int8", {})], CalibrationSet([{}], "d"), {}, report)
"""


def test_a_killed_run_goes_on_where_it_was(classifier: Path, cache: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(classifier / "model.onnx")]
    assert subprocess.run(command, cwd=_ROOT, check=False).returncode == -9
    stages = run(classifier, [("graph", {}), ("int8", {})])
    assert [one.cached for one in stages] == [True, False]
    assert all((one.path.parent / "made.json").is_file() for one in stages)


def test_an_unknown_pass_or_option_is_found_before_anything_runs(
    classifier: Path, cache: Path
) -> None:
    for chain, said in (
        ([("graph", {}), ("int9", {})], "no pass is named 'int9'; the passes are graph, int8"),
        ([("graph", {}), ("int8", {"methd": "minmax"})], "has no option 'methd'; it has: method"),
        ([("graph", {"level": 3})], "level must be like 'basic'"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(classifier, chain)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "best"}, "method is one of minmax"),
        ({"activations": "u4"}, "activations is u8 or s8"),
        ({"exclude": ("nowhere",)}, "has no node 'nowhere'"),
    ],
)
def test_an_impossible_value_is_refused(
    classifier: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        run(classifier, [("graph", {}), ("int8", options)])


def test_nothing_to_calibrate_on_says_what_to_do(classifier: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="--inputs"):
        run(classifier, [("int8", {})], CalibrationSet([], "none"))


def test_an_operator_nobody_knows_is_named(tmp_path: Path, classifier: Path) -> None:
    model = onnx.load(str(classifier / "model.onnx"))
    model.graph.node[1].op_type = "Frobnicate"
    onnx.save(model, str(classifier / "model.onnx"))
    with pytest.raises(ArtifactInvalid, match=r"Frobnicate.*Export the model again"):
        run(classifier, [("graph", {})])


def test_every_pass_loads_and_is_described() -> None:
    for name in PASSES:
        assert load_pass(name).what
        assert complete_options(name, {}) == load_pass(name).options
    assert {step for chains in CHAINS.values() for chain in chains for step in chain} <= set(PASSES)


def test_tensorrt_without_its_provider_says_so(classifier: Path) -> None:
    from runners.engines.onnx.session import unavailable

    if unavailable("TensorrtExecutionProvider") is None:
        pytest.skip("this machine has the provider")
    with pytest.raises(ArtifactInvalid, match=r"no TensorrtExecutionProvider.*GPU machine"):
        run(classifier, [("tensorrt", {})])
