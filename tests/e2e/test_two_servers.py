"""Two servers of one BentoML home beside each other."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import PROJECT, serving

pytestmark = pytest.mark.e2e
FAKES = str(Path(__file__).parent / "fakes.yaml")
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [1.0] * 15}]}


def counted(address: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("turnout_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_a_second_server_leaves_the_firsts_metrics_alone(tmp_path: Path) -> None:
    common = {
        "TURNOUT_CATALOG": FAKES,
        "BENTOML_HOME": str(tmp_path),
        "TURNOUT_DATABASE_URL": f"sqlite:///{tmp_path / 'bulk.db'}",
    }
    with serving(**common) as first:
        for _ in range(3):
            assert httpx.post(f"{first}/v2/models/fraud/infer", json=ROW).status_code == 200
        assert counted(first) == 3
        with serving("services.models:scorer", **common) as second:
            assert httpx.post(f"{second}/v2/models/scorer/infer", json=ROW).status_code == 200
            assert httpx.post(f"{first}/v2/models/fraud/infer", json=ROW).status_code == 200
            assert counted(first) == 4
            assert counted(second) == 1
        assert counted(first) == 4


def test_a_port_that_is_taken_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [str(Path(sys.executable).parent / "turnout"), "serve", "--port", port],
            cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr
