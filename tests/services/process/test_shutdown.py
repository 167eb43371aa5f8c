"""Leaving: a real server under load is told to stop, and every request gets an answer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import PROJECT, free_port

pytestmark = pytest.mark.e2e

CATALOG = """version: 1
classes:
  realtime: {deadline_ms: 20000, priority: 0, infeasible: fastest}
models:
  quick-one: {task: tabular, runner: {engine: fake}}
  slow-one: {task: tabular, runner: {engine: fake, latency_ms: 1500}}
routes:
  quick: {task: tabular, candidates: [quick-one], latency_class: realtime}
  slow: {task: tabular, candidates: [slow-one], latency_class: realtime}
"""
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [1.0] * 15}]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = os.environ | {
        "PORT": str(port),
        "TURNOUT_CATALOG": str(catalog),
        "BENTOML_HOME": str(tmp_path / "home"),
    }
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "bentoml"), "serve"],
        cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until_s = time.monotonic() + 120
        while not _ready(address):
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.1)
        yield process, address
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/v2/models/slow/ready").status_code == 200
    except httpx.HTTPError:
        return False


async def test_every_request_is_answered_while_the_server_leaves(
    server: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, address = server
    statuses: Counter[int] = Counter()
    silent: list[httpx.Response] = []
    told = asyncio.Event()

    async def keeps_asking() -> None:
        """A keep-alive client: after a refusal, or a word that the server leaves, it goes."""
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                reply = await client.post(f"{address}/v2/models/quick/infer", json=ROW)
                statuses[reply.status_code] += 1
                if reply.status_code == 503 and "retry-after" not in reply.headers:
                    silent.append(reply)
                if reply.headers.get("connection") == "close":
                    assert told.is_set()
                    return

    async with httpx.AsyncClient(timeout=30) as client:
        clients = [asyncio.create_task(keeps_asking()) for _ in range(8)]
        slow = [
            asyncio.create_task(client.post(f"{address}/v2/models/slow/infer", json=ROW))
            for _ in range(4)
        ]
        while statuses[200] < 50:
            await asyncio.sleep(0.01)
        told.set()
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        accepted = await asyncio.gather(*slow)
    assert [reply.status_code for reply in accepted] == [200] * 4
    assert set(statuses) <= {200, 503}
    assert not silent
    assert await asyncio.to_thread(process.wait, 30) == 0
