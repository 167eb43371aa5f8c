"""Models that cannot serve beside one that can: each says why, and the gateway keeps serving."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from runners.engines.onnx.session import CUDA, unavailable
from tests.e2e.conftest import PROJECT, serving

pytestmark = pytest.mark.e2e
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [1.0] * 15}]}


def scorer(columns: int = 15, operator: str = "Sigmoid", domain: str = "") -> bytes:
    """An ONNX model of the tabular task: sigmoid of the mean."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "w"], ["mean"]),
            helper.make_node("Squeeze", ["mean", "axis"], ["flat"]),
            helper.make_node(operator, ["flat"], ["probability"], domain=domain),
        ],
        "scorer",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows"])],
        [
            numpy_helper.from_array(np.full((columns, 1), 1 / columns, np.float32), "w"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


CONTENTS = {
    "good": scorer(),
    "damaged": scorer(),
    "other-hash": scorer(),
    "pickled": pickle.dumps({"w": [1.0]}),
    "narrow": scorer(columns=10),
    "exotic": scorer(operator="Frobnicate", domain="example.org"),
    "wants-cuda": scorer(),
    "strict-cuda": scorer(),
}
RUNNERS = {
    "wants-cuda": {"engine": "onnx", "provider": "cuda"},
    "strict-cuda": {"engine": "onnx", "provider": "cuda", "strict": True},
}
BUILD_SAYS = {
    "other-hash": "has sha256",
    "pickled": "is a pickle, whatever its name says",
}
SERVER_SAYS = {
    "damaged": "model.onnx has changed since the build; remove this folder and run `turnout",
    "other-hash": "not in the store",
    "pickled": "not in the store",
    "narrow": "input 'features' has shape [1, 15], the model takes [any, 10]",
    "exotic": "Frobnicate",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A catalog of these models, and a store of its own: the environment that names both."""
    folder = tmp_path_factory.mktemp("faults")
    models: dict[str, Any] = {}
    for name, content in CONTENTS.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        sha256 = "0" * 64 if name == "other-hash" else hashlib.sha256(content).hexdigest()
        models[name] = {
            "task": "tabular",
            "runner": RUNNERS.get(name, {"engine": "onnx"}),
            "artifact": {"tag": name, "source": f"file:{path}", "sha256": sha256},
        }
    catalog = {
        "version": 1,
        "classes": {"realtime": {"deadline_ms": 100, "priority": 0}},
        "models": models,
        "routes": {
            "fraud": {"task": "tabular", "candidates": [*models], "latency_class": "realtime"}
        },
    }
    (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    return {
        "TURNOUT_CATALOG": str(folder / "catalog.yaml"),
        "BENTOML_HOME": str(folder / "home"),
        "TURNOUT_CACHE": str(folder / "cache"),
        "TURNOUT_DATABASE_URL": f"sqlite:///{folder / 'bulk.db'}",
    }


@pytest.fixture(scope="module")
def built(place: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "turnout"), "models", "build", "--catalog"]
    done = subprocess.run(
        [*command, place["TURNOUT_CATALOG"]],
        cwd=PROJECT,
        env=os.environ | place,
        capture_output=True,
        text=True,
    )
    stored = next(Path(place["BENTOML_HOME"]).glob("models/damaged/*/model.onnx"))
    content = bytearray(stored.read_bytes())
    content[content.index(np.float32(1 / 15).tobytes())] ^= 1  # one bit of one weight
    stored.write_bytes(content)
    return done


@pytest.fixture(scope="module")
def address(place: dict[str, str], built: object) -> Iterator[str]:
    with serving(**place) as address:
        yield address


def test_the_build_names_what_is_wrong_and_builds_the_rest(
    built: subprocess.CompletedProcess[str],
) -> None:
    assert built.returncode == 2
    for name, said in BUILD_SAYS.items():
        lines = built.stderr.splitlines()
        line = next(line for line in lines if f"] {name}: failed" in line)
        assert said in line
        assert f"{name}.onnx" in line
    assert "Traceback" not in built.stderr


def test_the_good_one_serves(address: str) -> None:
    reply = httpx.post(f"{address}/v2/models/fraud/infer", json=ROW)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-turnout-model"] == "good"
    assert reply.json()["outputs"][0]["data"] == [pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)]


@pytest.mark.parametrize("name", SERVER_SAYS)
def test_each_of_the_others_says_why_it_does_not(address: str, name: str) -> None:
    state = httpx.get(f"{address}/v2/models/{name}").json()["parameters"]["state"]
    assert SERVER_SAYS[name] in state
    reply = httpx.post(f"{address}/v2/models/{name}/infer", json=ROW)
    assert reply.status_code in (500, 503)
    assert SERVER_SAYS[name] in reply.json()["error"]
    assert httpx.get(f"{address}/v2/models/{name}/ready").status_code == 503


def test_the_list_says_what_runs_and_why_the_others_do_not(address: str) -> None:
    command = [str(Path(sys.executable).parent / "turnout"), "models", "list", "--url", address]
    done = subprocess.run([*command, "--json"], cwd=PROJECT, capture_output=True, text=True)
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == CONTENTS.keys()
    assert rows["good"]["provider"] == rows["good"]["requested"] == "CPUExecutionProvider"
    assert "Frobnicate" in rows["exotic"]["state"]


def test_what_was_asked_for_and_what_runs_are_both_shown(address: str) -> None:
    if unavailable(CUDA) is None:
        pytest.skip("this machine has the provider")
    shown = httpx.get(f"{address}/v2/models/wants-cuda").json()["parameters"]
    assert (shown["requested"], shown["provider"]) == (CUDA, "CPUExecutionProvider")
    assert "has no CUDAExecutionProvider" in shown["reason"]
    assert httpx.post(f"{address}/v2/models/wants-cuda/infer", json=ROW).status_code == 200
    strict = httpx.get(f"{address}/v2/models/strict-cuda").json()["parameters"]
    assert "strict forbids a fallback" in strict["state"]
    lines = [
        line
        for line in httpx.get(f"{address}/metrics").text.splitlines()
        if line.startswith("turnout_model_fallback{") and line.endswith(" 1.0")
    ]
    assert len(lines) == 1
    assert 'model="wants-cuda"' in lines[0]
    assert f'requested="{CUDA}"' in lines[0]


def test_the_gateway_is_ready(address: str) -> None:
    assert httpx.get(f"{address}/readyz").status_code == 200
