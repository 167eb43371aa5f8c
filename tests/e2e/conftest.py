"""The real server over the real models of the default catalog, started once for all tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from turnout.settings import PROJECT

START_LIMIT_S = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(
    *target: str, models: tuple[str, ...] = (), cwd: Path = PROJECT, **environment: str
) -> Iterator[str]:
    """Run ``bentoml serve target``; wait until these models are ready; end it with SIGTERM."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = os.environ | {"PORT": str(port), "BENTOML_DO_NOT_TRACK": "True"} | environment
    log = Path(env.get("TMPDIR", "/tmp")) / f"turnout-e2e-{port}.log"
    with log.open("wb") as out:
        bentoml = Path(sys.executable).parent / "bentoml"
        server = subprocess.Popen(
            [str(bentoml), "serve", *target], cwd=cwd, env=env, stdout=out, stderr=out
        )
        try:
            _wait(server, address, models, log)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise
            finally:
                log.unlink()


def _wait(
    server: subprocess.Popen[bytes], address: str, models: tuple[str, ...], log: Path
) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    waiting = ["/readyz", *(f"/v2/models/{name}/ready" for name in models)]
    while waiting:
        if server.poll() is not None or time.monotonic() > until_s:
            pytest.fail(f"no answer from {waiting[0]}; the server said:\n{log.read_text()[-4000:]}")
        try:
            if httpx.get(address + waiting[0], timeout=5).status_code == 200:
                waiting.pop(0)
                continue
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


@pytest.fixture(scope="session")
def gateway() -> Iterator[str]:
    models = ("smollm2", "smollm2-int8", "efficientnet-lite2", "fraud-large", "all-minilm-l6-v2")
    with serving(models=models) as address:
        yield address
