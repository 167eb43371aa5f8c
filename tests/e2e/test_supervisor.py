"""A supervisor that is killed outright takes its workers with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import PROJECT, free_port

pytestmark = pytest.mark.e2e
FAKES = Path(__file__).parent / "fakes.yaml"


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = os.environ | {
        "PORT": str(port),
        "BENTOML_HOME": str(tmp_path),
        "TURNOUT_CATALOG": str(FAKES),
        "TURNOUT_DATABASE_URL": f"sqlite:///{tmp_path / 'bulk.db'}",
    }
    bentoml = Path(sys.executable).parent / "bentoml"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(bentoml), "serve"], cwd=PROJECT, env=env, stdout=log, stderr=log
        )
    give_up_s = time.monotonic() + 120
    while not answers(address):
        if server.poll() is not None or time.monotonic() > give_up_s:
            pytest.fail((tmp_path / "log").read_text()[-4000:])
        time.sleep(0.1)
    server.send_signal(signal.SIGKILL)
    server.wait()
    give_up_s = time.monotonic() + 30
    while answers(address):
        if time.monotonic() > give_up_s:
            pytest.fail("the worker still answers")
        time.sleep(0.1)
