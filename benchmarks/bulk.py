"""Measure batches through the gateway: throughput, the cost of durability, survival of kill -9.

    python -m benchmarks.bulk --json FILE [--rows 20000] [--kills 20]

Each kind of row is run twice in the same run, over the same server: as a durable batch, and as
direct requests, 32 under way, sent again when refused. ``--kills`` then kills every process
of a server at random moments during a batch of 10,000 rows and checks each row's result.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import uvloop

from benchmarks.provenance import save
from benchmarks.servers import PROJECT, Server, free_port, running

_FRAUD, _IMAGE = "/v2/models/fraud/infer", "/v2/models/image/infer"
_LARGE_BYTES = 100_000
_UNDER_WAY = 32
_AGAIN_S = 0.05
_KILLED_ROWS = 10_000
_POLL_S = 0.2
_READY_S = 120.0
CATALOG = "benchmarks/bulk.yaml"


def body(kind: str, number: int) -> dict[str, Any]:
    """Return a row's body: 15 numbers, or ``_LARGE_BYTES`` of an image's size."""
    if kind == "small":
        data: list[Any] = [number + column / 16 for column in range(15)]
        return {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15],
                            "data": data}]}  # fmt: skip
    image = base64.b64encode(number.to_bytes(8, "big") * (_LARGE_BYTES // 8)).decode()
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [image],
                        "parameters": {"content_type": "base64"}}]}  # fmt: skip


def lines(kind: str, endpoint: str, rows: int) -> Iterator[bytes]:
    """Return a job file."""
    for number in range(rows):
        row = {"custom_id": f"row-{number}", "method": "POST", "url": endpoint,
               "body": body(kind, number)}  # fmt: skip
        yield json.dumps(row).encode() + b"\n"


def submit(client: httpx.Client, kind: str, endpoint: str, rows: int) -> str:
    """Upload a job file, create a batch and return its id."""
    content = b"".join(lines(kind, endpoint, rows))
    file = client.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)}
    ).raise_for_status()
    said = {"input_file_id": file.json()["id"], "endpoint": endpoint, "completion_window": "24h"}
    return client.post("/v1/batches", json=said).raise_for_status().json()["id"]


def ended(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    """Wait until a batch has ended and return it."""
    while True:
        batch = client.get(f"/v1/batches/{batch_id}").raise_for_status().json()
        if batch["status"] in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(_POLL_S)


def durable(server: Server, kind: str, endpoint: str, rows: int) -> dict[str, Any]:
    """Return a batch's rows per second, from its creation and from its first row."""
    with httpx.Client(base_url=server.address, timeout=600) as client:
        began_s, cpu_s = time.monotonic(), server.cpu_s()
        batch = ended(client, submit(client, kind, endpoint, rows))
        took_s, used_s = time.monotonic() - began_s, server.cpu_s() - cpu_s
        exact = batch["request_counts"] == {"total": rows, "completed": rows, "failed": 0}
    return {
        "rows": rows,
        "rows_per_s": round(batch["turnout"]["rows_per_s"], 1),
        "rows_per_s_with_upload": round(rows / took_s, 1),
        "cpu_us_per_row": round(used_s / rows * 1e6, 1),
        "exact": exact,
    }


async def _direct(address: str, kind: str, endpoint: str, rows: int) -> tuple[int, int]:
    bodies = [json.dumps(body(kind, number)).encode() for number in range(min(rows, 512))]
    headers = {"content-type": "application/json", "x-latency-class": "bulk"}
    todo = iter(range(rows))
    answered = refused = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal answered, refused
        for number in todo:
            data = bodies[number % len(bodies)]
            while True:
                async with session.post(address + endpoint, data=data, headers=headers) as reply:
                    await reply.read()
                    if reply.status == 200:
                        answered += 1
                        break
                    refused += 1
                    await asyncio.sleep(_AGAIN_S)

    connector = aiohttp.TCPConnector(limit=_UNDER_WAY)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(_UNDER_WAY)))
    return answered, refused


def direct(server: Server, kind: str, endpoint: str, rows: int) -> dict[str, Any]:
    """Return the rows per second of direct requests, from a client on the same cores."""
    began_s, cpu_s = time.monotonic(), server.cpu_s()
    answered, refused = uvloop.run(_direct(server.address, kind, endpoint, rows))
    took_s, used_s = time.monotonic() - began_s, server.cpu_s() - cpu_s
    return {
        "rows": rows,
        "rows_per_s": round(rows / took_s, 1),
        "cpu_us_per_row": round(used_s / rows * 1e6, 1),
        "answered": answered,
        "refused_and_sent_again": refused,
    }


def compare(rows: int, folder: Path) -> dict[str, Any]:
    """Compare batches and direct requests, small and large, on one server."""
    port = free_port()
    serve = [str(Path(sys.executable).parent / "bentoml"), "serve"]
    result: dict[str, Any] = {}
    with running(
        serve, port, "/readyz", PORT=str(port), TURNOUT_CATALOG=CATALOG,
        TURNOUT_DATABASE_URL=f"sqlite:///{folder}/bulk.db",
    ) as server:  # fmt: skip
        durable(server, "small", _FRAUD, 1000)
        for kind, endpoint, number in (("small", _FRAUD, rows), ("large", _IMAGE, rows // 20)):
            batch = durable(server, kind, endpoint, number)
            calls = direct(server, kind, endpoint, number)
            ratio = round(batch["rows_per_s"] / calls["rows_per_s"], 2)
            result[kind] = {"durable": batch, "direct": calls, "durable_to_direct": ratio}
            print(
                f"{kind:<6} durable {batch['rows_per_s']:>8.1f} rows/s "
                f"({batch['cpu_us_per_row']:.0f} us CPU a row)  direct {calls['rows_per_s']:>8.1f} "
                f"rows/s ({calls['cpu_us_per_row']:.0f} us)  ratio {ratio}",
                flush=True,
            )
    return result


def killed(kills: int, folder: Path) -> dict[str, Any]:
    """Kill every process of a server repeatedly during one batch; count the results per row."""
    port = free_port()
    env = os.environ | {
        "PORT": str(port), "TURNOUT_CATALOG": CATALOG, "BENTOML_DO_NOT_TRACK": "True",
        "TURNOUT_DATABASE_URL": f"sqlite:///{folder}/kills.db",
    }  # fmt: skip
    chance = random.Random(1)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        server = _start(client, env)
        batch_id = submit(client, "small", "/v2/models/slow/infer", _KILLED_ROWS)
        moments = sorted(chance.sample(range(1, _KILLED_ROWS * 2 // 3), kills))
        for moment in moments:
            while _done(client, batch_id) < moment:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.1))
            _kill(server)
            server = _start(client, env)
        batch = ended(client, batch_id)
        output = client.get(f"/v1/files/{batch['output_file_id']}/content").raise_for_status()
        _kill(server)
    ids = [json.loads(line)["custom_id"] for line in output.content.splitlines()]
    exact = ids == [f"row-{number}" for number in range(_KILLED_ROWS)]
    print(f"{kills} kills during {_KILLED_ROWS} rows: every row has exactly one result: {exact}")
    return {"kills": kills, "rows": _KILLED_ROWS, "lines": len(ids), "exact": exact}


def _start(client: httpx.Client, env: dict[str, str]) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "bentoml"), "serve"], cwd=PROJECT, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until_s = time.monotonic() + _READY_S
    while time.monotonic() < until_s and server.poll() is None:
        with suppress(httpx.HTTPError):
            if client.get("/readyz").status_code == 200:
                return server
        time.sleep(0.05)
    raise RuntimeError("the server did not become ready")


def _kill(server: subprocess.Popen[bytes]) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _done(client: httpx.Client, batch_id: str) -> int:
    return (
        client.get(f"/v1/batches/{batch_id}")
        .raise_for_status()
        .json()["request_counts"]["completed"]
    )


def main() -> int:
    """Run the chosen measurements; return 1 when a row was lost or doubled."""
    parser = argparse.ArgumentParser(description="Batches: rows a second, and kill -9.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turnout-bulk-") as name:
        result = compare(given.rows, Path(name))
        exact = all(each["durable"]["exact"] for each in result.values())
        if given.kills:
            result["kills"] = killed(given.kills, Path(name))
            exact = exact and result["kills"]["exact"]
    save(given.json, result)
    return 0 if exact else 1


if __name__ == "__main__":
    raise SystemExit(main())
