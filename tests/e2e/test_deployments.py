"""One model alone, a hybrid catalog, and the built Bento: each serves the same way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import yaml

from services.artifacts import store
from tests.e2e.conftest import PROJECT, serving

pytestmark = pytest.mark.e2e
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [1.0] * 15}]}
HI = [{"role": "user", "content": "Say hello."}]


def test_one_model_is_served_alone() -> None:
    with serving("services.models:fraud-large") as address:
        reply = httpx.post(f"{address}/v2/models/fraud-large/infer", json=ROW)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-turnout-model"] == "fraud-large"
        by_route = httpx.post(f"{address}/v2/models/fraud/infer", json=ROW)
        assert by_route.json()["outputs"] == reply.json()["outputs"]
        assert httpx.get(f"{address}/v2/models/fraud-small").status_code == 404


def test_a_remote_model_stands_beside_local_ones(gateway: str, tmp_path: Path) -> None:
    """The large model is remote: an OpenAI-compatible upstream, here the other gateway."""
    catalog = yaml.safe_load((PROJECT / "catalog" / "hybrid.yaml").read_text())
    remote = catalog["models"]["large-remote"]["runner"]
    remote |= {"url": gateway, "model": "smollm2", "api_key_env": "UPSTREAM_KEY"}
    local = {"engine": "open-inference", "url": gateway, "model": "fraud-small"}
    catalog["models"]["far-fraud"] = {"task": "tabular", "runner": local, "placement": "remote"}
    catalog["routes"]["fraud"] = {
        "task": "tabular", "candidates": ["far-fraud"], "latency_class": "interactive",
    }  # fmt: skip
    file = tmp_path / "hybrid.yaml"
    file.write_text(yaml.safe_dump(catalog))
    settings = {"TURNOUT_CATALOG": str(file), "UPSTREAM_KEY": "secret"}
    with serving(models=("smollm2-int8", "large-remote", "far-fraud"), **settings) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        for model in ("smollm2-int8", "large-remote"):
            answer = client.chat.completions.create(model=model, messages=HI, max_tokens=8)
            assert answer.model == model
            assert answer.choices[0].message.content
        near = httpx.post(f"{gateway}/v2/models/fraud-small/infer", json=ROW).json()
        far = httpx.post(f"{address}/v2/models/fraud/infer", json=ROW).json()
        assert np.allclose(near["outputs"][0]["data"], far["outputs"][0]["data"])


@pytest.fixture
def bento_home(tmp_path: Path) -> Iterator[Path]:
    """A store of its own that shares the built models, so that the test leaves no Bento behind."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(store.home() / "models")
    yield home
    shutil.rmtree(home / "bentos", ignore_errors=True)


@pytest.mark.slow
def test_the_built_bento_serves_the_same_way(bento_home: Path) -> None:
    bentoml = str(Path(sys.executable).parent / "bentoml")
    env = os.environ | {"BENTOML_HOME": str(bento_home), "BENTOML_DO_NOT_TRACK": "True"}
    built = subprocess.run(
        [bentoml, "build", "--output", "tag"], cwd=PROJECT, env=env, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    with serving("turnout:latest", cwd=bento_home, BENTOML_HOME=str(bento_home)) as address:
        reply = httpx.post(f"{address}/v2/models/fraud/infer", json=ROW)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-turnout-model"] == "fraud-small"
    manifest = yaml.safe_load(next(bento_home.glob("bentos/turnout/*/bento.yaml")).read_text())
    shipped = {model["tag"].split(":")[0] for s in manifest["services"] for model in s["models"]}
    assert {"fraud-small", "efficientnet-lite2", "smollm2-135m-instruct"} <= shipped
