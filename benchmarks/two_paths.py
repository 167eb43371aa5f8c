"""Measure real-time fraud scoring beside a bulk job that alone would use every core.

    python -m benchmarks.two_paths [--json FILE] [--rate 500] [--seconds 30]

Four measurements in one run: real time alone, the bulk job alone, both together, and whether the
job is complete and exact at its end. The bulk job is a batch of embeddings through ``/v1/batches``.
Bulk may use the remaining core-seconds: cores times seconds, minus those that the generator and
real time use alone. Its throughput is compared per remaining core-second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import uvloop

from benchmarks import fraud
from benchmarks.open_loop import Result, run
from benchmarks.provenance import save
from benchmarks.servers import Server, free_port, running

_P99_MS = 50.0
_KEPT = 0.6
_WORDS = [
    "red",
    "fox",
    "market",
    "train",
    "river",
    "paper",
    "window",
    "salt",
    "engine",
    "garden",
    "copper",
    "night",
]


class Bulk:
    """A client of one server's bulk path."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=address, timeout=30.0)

    def submit(self, rows: int) -> str:
        """Submit a batch of ``rows`` sentences and return its id."""
        content = b"".join(_line(number) for number in range(rows))
        made = self._http.post(
            "/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "batch"}
        ).raise_for_status()
        wanted = {
            "input_file_id": made.json()["id"],
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
        }
        return self._http.post("/v1/batches", json=wanted).raise_for_status().json()["id"]

    def look(self, batch: str) -> dict[str, Any]:
        """Return the batch object."""
        return self._http.get(f"/v1/batches/{batch}").raise_for_status().json()

    def done(self, batch: str) -> int:
        """Return the number of finished rows."""
        return self.look(batch)["request_counts"]["completed"]

    def under_way(self, batch: str) -> None:
        """Wait until the first rows are finished."""
        while not self.done(batch):
            time.sleep(0.1)

    def cancel(self, batch: str) -> None:
        """Cancel the batch and wait until it has ended."""
        self._http.post(f"/v1/batches/{batch}/cancel").raise_for_status()
        while self.look(batch)["status"] != "cancelled":
            time.sleep(0.2)

    def results(self, batch: str) -> dict[str, np.ndarray]:
        """Wait for the end; return each row's embedding by ``custom_id``."""
        while (seen := self.look(batch))["status"] != "completed":
            if seen["status"] in ("failed", "expired", "cancelled"):
                raise RuntimeError(f"the batch ended as {seen['status']}: {seen['errors']}")
            time.sleep(0.5)
        text = self._http.get(f"/v1/files/{seen['output_file_id']}/content").raise_for_status().text
        found: dict[str, np.ndarray] = {}
        for line in text.splitlines():
            row = json.loads(line)
            if row["custom_id"] in found:
                raise RuntimeError(f"{row['custom_id']} has two results")
            vector = row["response"]["body"]["data"][0]["embedding"]
            found[row["custom_id"]] = np.array(vector, np.float32)
        return found


def _text(number: int) -> str:
    return " ".join(_WORDS[(number * 7 + at * at) % len(_WORDS)] for at in range(6 + number % 9))


def _line(number: int) -> bytes:
    body = {"model": "embed", "input": _text(number)}
    row = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(row).encode() + b"\n"


def real_time(server: Server, rate: float, seconds: float) -> tuple[Result, float]:
    """Offer fraud requests at a rate; return the result and the CPU seconds used."""
    batch = fraud.requests(server.address, fraud.PATH)
    me = psutil.Process()
    before_s = server.cpu_s() + sum(me.cpu_times()[:2])
    result = uvloop.run(run(server.address + fraud.PATH, batch, rate, seconds))
    return result, server.cpu_s() + sum(me.cpu_times()[:2]) - before_s


def bulk_alone(bulk: Bulk, server: Server, seconds: float, rows: int) -> tuple[float, float]:
    """Return the job's rows per second alone, and the cores that it used."""
    batch = bulk.submit(rows)
    bulk.under_way(batch)
    time.sleep(2.0)
    before, began_s, used_s = bulk.done(batch), time.monotonic(), server.cpu_s()
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    rate, busy = (bulk.done(batch) - before) / took_s, (server.cpu_s() - used_s) / took_s
    bulk.cancel(batch)
    return rate, busy


def together(
    bulk: Bulk, server: Server, rate: float, seconds: float, rows: int
) -> tuple[Result, float, str]:
    """Run both; return the real-time result, the bulk rows per second, and the running batch."""
    batch = bulk.submit(rows)
    bulk.under_way(batch)
    fraud_only: list[Result] = []

    def generate() -> None:
        fraud_only.append(real_time(server, rate, seconds)[0])

    time.sleep(2.0)
    before, began_s = bulk.done(batch), time.monotonic()
    thread = threading.Thread(target=generate)
    thread.start()
    thread.join()
    return fraud_only[0], (bulk.done(batch) - before) / (time.monotonic() - began_s), batch


def exact(bulk: Bulk, server: Server, batch: str, rows: int) -> bool:
    """Return whether every row has one result, equal to that of a single request."""
    found = bulk.results(batch)
    if set(found) != {f"row-{number}" for number in range(rows)}:
        return False
    for number in range(0, rows, max(rows // 50, 1)):
        body = {"model": "embed", "input": _text(number)}
        reply = httpx.post(f"{server.address}/v1/embeddings", json=body, timeout=30.0)
        alone = np.array(reply.raise_for_status().json()["data"][0]["embedding"], np.float32)
        if not np.allclose(alone, found[f"row-{number}"], atol=1e-4):
            return False
    return True


def main() -> int:
    """Measure; return 1 when a rate is not reached, or the job is not complete and exact."""
    parser = argparse.ArgumentParser(description="Real time beside bulk.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    port, cores = free_port(), os.cpu_count() or 1
    serve = [str(Path(sys.executable).parent / "bentoml"), "serve"]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            serve, port, "/v2/models/embedder/ready", PORT=str(port),
            TURNOUT_CATALOG="benchmarks/two_paths.yaml",
            TURNOUT_DATABASE_URL=f"sqlite:///{folder}/bulk.sqlite",
        ) as server,
    ):  # fmt: skip
        bulk = Bulk(server.address)
        real_time(server, given.rate, 4.0)
        alone, used_s = real_time(server, given.rate, given.seconds / 2)
        left = cores - used_s / (given.seconds / 2)
        by_itself, busy = bulk_alone(bulk, server, given.seconds / 3, int(given.seconds * 1000))
        rows = int(by_itself * (given.seconds + 6))
        both, beside, batch = together(bulk, server, given.rate, given.seconds, rows)
        complete = exact(bulk, server, batch, rows)
    kept = (beside / left) / (by_itself / cores)
    result = {
        "realtime_alone": alone.as_json(),
        "realtime_beside_bulk": both.as_json(),
        "cores": cores,
        "cores_left": round(left, 2),
        "bulk_alone_rows_per_s": round(by_itself, 1),
        "bulk_alone_cores_busy": round(busy, 2),
        "bulk_beside_rows_per_s": round(beside, 1),
        "bulk_kept_per_core_second": round(kept, 3),
        "bulk_rows": rows,
        "bulk_complete_and_exact": complete,
        "held": both.p99_ms < _P99_MS and kept >= _KEPT and complete,
    }
    print(json.dumps(result, indent=2))
    save(given.json, result)
    return 0 if both.kept_up and complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
