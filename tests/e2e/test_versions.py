"""Versions behind a real server of two processes: bad canaries go by themselves, good ones stay."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tritonclient.http as triton

from tests.e2e.conftest import PROJECT, serving

pytestmark = pytest.mark.e2e

CATALOG = """version: 1
gateway: {workers: 2}
classes:
  quick: {deadline_ms: 2000, percentile: 0.95, priority: 0, infeasible: fastest}
models:
"""
MODEL = """  NAME:
    task: tabular
    runner: {engine: fake}
    profile: {base_ms: 2}
    versions:
      1: {runner: {engine: fake, latency_ms: 1}}
      2: {runner: {engine: fake, latency_ms: 1, fail: FAULT, after_runs: 3}}
    production: 1
    canary: {version: 2, share: 0.3}
"""
REST = """  writer:
    task: chat
    runner: {engine: fake}
    versions: {a: {}, b: {}}
    production: a
routes:
  chat: {task: chat, candidates: [writer], latency_class: quick}
"""
ROUTE = "  ROUTE: {task: tabular, candidates: [NAME], latency_class: quick}\n"
FAULTS = {"raises": "run", "not-a-number": "nan", "slower": "slow", "good": "never"}
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    models = [MODEL.replace("NAME", n).replace("FAULT", fault) for n, fault in FAULTS.items()]
    routes = [ROUTE.replace("ROUTE", f"by-{n}").replace("NAME", n) for n in FAULTS]
    (folder / "versions.yaml").write_text("".join([CATALOG, *models, REST, *routes]))
    return folder


def environment(home: Path, server: str = "first") -> dict[str, str]:
    return {
        "BENTOML_HOME": str(home / server),
        "TURNOUT_CATALOG": str(home / "versions.yaml"),
        "TURNOUT_DATABASE_URL": f"sqlite:///{home}/turnout.db",
    }


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serving(models=("good", "writer"), **environment(home)) as url:
        yield url


def turnout(address: str, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "turnout"), "models", *arguments]
    done = subprocess.run(
        [*command, "--url", address], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(address: str) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in json.loads(turnout(address, "list", "--json"))}


def ask(client: httpx.Client, name: str) -> str:
    """One request; every one is answered, whatever becomes of the canary."""
    reply = client.post(f"/v2/models/{name}/infer", json=ROW)
    assert reply.status_code == 200, reply.text
    data = reply.json()["outputs"][0]["data"]
    assert all(0.0 <= value <= 1.0 for value in data), data
    return reply.headers["x-turnout-model"]


def until_only(address: str, name: str, model: str) -> None:
    """Until both workers have heard that only this model answers."""
    in_a_row = 0
    while in_a_row < 30:
        with httpx.Client(base_url=address, timeout=30) as once:
            in_a_row = in_a_row + 1 if ask(once, name) == model else 0


def state(client: httpx.Client, name: str) -> dict[str, Any]:
    return client.get(f"/v2/models/{name}").json()["parameters"]["versions"]


@pytest.mark.parametrize("name", ["raises", "not-a-number", "slower"])
def test_a_bad_canary_is_taken_back_by_itself_and_callers_see_no_error(
    address: str, name: str
) -> None:
    answered: Counter[str] = Counter()
    with httpx.Client(base_url=address, timeout=30) as client:
        while state(client, name)["canary"] is not None:
            for _ in range(20):  # a connection each, so that both workers are hit
                with httpx.Client(base_url=address, timeout=30) as once:
                    answered[ask(once, f"by-{name}")] += 1
        shown = state(client, name)
    assert (shown["production"], shown["taken_back"]) == ("1", "2")
    assert ("slow" if name == "slower" else "failed") in shown["why"]
    assert answered[f"{name}@1"] > answered[f"{name}@2"]
    until_only(address, f"by-{name}", f"{name}@1")
    row = listed(address)[f"{name}@2"]
    assert row["verdict"] == "taken back"
    metrics = httpx.get(f"{address}/metrics").text
    assert f'turnout_canary_taken_back_total{{model="{name}",version="2"' in metrics


def test_a_good_canary_is_promoted_by_a_command_and_stays_so(address: str, home: Path) -> None:
    said = turnout(address, "canary", "good", "--version", "2", "--share", "0.5")
    assert "canary 2 (0.5)" in said
    assert listed(address)["good@2"]["alias"] == "canary"
    with httpx.Client(base_url=address, timeout=30) as client:
        assert {ask(client, "good") for _ in range(60)} == {"good@1", "good@2"}
    assert "production 2" in turnout(address, "promote", "good")
    rows = listed(address)
    assert (rows["good@1"]["alias"], rows["good@2"]["alias"]) == ("", "production")
    until_only(address, "by-good", "good@2")
    assert "version 1 is back" in turnout(address, "rollback", "good")
    assert "production 2" in turnout(address, "promote", "good", "--version", "2")


def test_real_clients_name_versions_and_aliases(address: str) -> None:
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    assert client.is_model_ready("good", "1")
    assert not client.is_model_ready("good", "9")
    assert client.get_model_metadata("good")["versions"] == ["1", "2"]
    tensor = triton.InferInput("features", [1, 15], "FP32")
    tensor.set_data_from_numpy(np.full((1, 15), 0.5, np.float32))
    for version in ("1", "2"):
        answer = client.infer("good", [tensor], model_version=version)
        assert answer.get_response()["model_version"] == version
    client.close()
    chat = openai.OpenAI(base_url=f"{address}/v1", api_key="none")
    for name, model in {"writer": "writer@a", "writer@b": "writer@b"}.items():
        said = chat.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "hi"}]
        )
        assert said.model == model


def test_a_restart_keeps_what_was_decided(home: Path, address: str) -> None:
    del address  # the others ran first, and their server still runs
    with (
        serving(models=("good",), **environment(home, "again")) as again,
        httpx.Client(base_url=again) as client,
    ):
        assert (state(client, "raises")["canary"], state(client, "raises")["taken_back"]) == (
            None, "2",
        )  # fmt: skip
        assert state(client, "good")["production"] == "2"
