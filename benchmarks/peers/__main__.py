"""Compare the knee of each peer with the gateway's: same model, rows, generator and machine.

    python -m benchmarks.peers [--json FILE] [--only NAME ...]

Rates rise by a quarter until p99 passes 100 ms or answers fall behind; a step that fails is tried
once more. Peers run in environments of their own under ``var/peers``, made on the first run.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks import fraud
from benchmarks.open_loop import Result, http_request, run
from benchmarks.peers.peer import FOLDER, PEERS, Peer, open_inference
from benchmarks.provenance import save
from benchmarks.servers import Server, free_port, running
from services.artifacts.store import resolve
from turnout.catalog import Artifact

_SECONDS = 3.0
_STEP = 1.25
_P99_MS = 100.0
_MOST_STEPS = 20

OURS = Peer(
    "Turnout", "the gateway as `turnout serve` runs it: decision, metrics and log on, one worker",
    (), lambda programs, port: [str(programs / "bentoml"), "serve"],
    "/v2/models/fraud-small/ready", "/v2/models/fraud/infer", open_inference, 1600,
)  # fmt: skip


def started(peer: Peer) -> AbstractContextManager[Server]:
    """Run the peer until the block ends."""
    port = free_port()
    model = resolve(Artifact(tag="fraud-small", recipe="fraud", options={"size": "small"}))
    environment: dict[str, str] = {
        "PORT": str(port),
        "FRAUD_MODEL": str(model / "model.onnx"),
        "PEERS_FOLDER": str(FOLDER),
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(free_port()),
        "MLSERVER_METRICS_PORT": str(free_port()),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TURNOUT_CATALOG": "benchmarks/fraud.yaml",
    }
    command = peer.command(peer.programs, port)
    if peer is OURS:
        return running(command, port, peer.ready, environment=environment)
    environment["PYTHONPATH"] = str(FOLDER)
    return running(command, port, peer.ready, cwd=FOLDER, environment=environment)


def measure(peer: Peer, server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Run one measurement at one rate."""
    rng = np.random.default_rng(7)
    batch = []
    for _ in range(512):
        row = [round(float(value), 3) for value in rng.lognormal(2.0, 1.2, 15)]
        batch.append(http_request(server.address + peer.path, peer.body(row)))
    before_s = server.cpu_s()
    result: Result = uvloop.run(run(server.address + peer.path, batch, rate, seconds))
    good = max(result.statuses.get("200", 0), 1)
    used_s = server.cpu_s() - before_s
    return result.as_json() | {"cpu_us_per_request": round(used_s / good * 1e6, 1)}


def knee(peer: Peer) -> dict[str, Any]:
    """Return the highest rate that a peer sustains, and the steps to it."""
    peer.install()
    steps: list[dict[str, Any]] = []
    best: dict[str, Any] | None = None
    with started(peer) as server:
        measure(peer, server, peer.first_rate / 2, _SECONDS)
        rate = peer.first_rate
        for _ in range(_MOST_STEPS):
            step = _tried(peer, server, rate, steps)
            if step is None:
                if best is not None or rate < 20:
                    break
                rate /= 2
                continue
            best, rate = step, rate * _STEP
    return {
        "name": peer.name,
        "how": peer.how,
        "knee_per_s": best["offered"] if best else 0.0,
        "p50_ms": best and round(best["p50_ms"], 2),
        "p99_ms": best and round(best["p99_ms"], 2),
        "cpu_us_per_request": best and best["cpu_us_per_request"],
        "steps": steps,
    }


def _tried(
    peer: Peer, server: Server, rate: float, steps: list[dict[str, Any]]
) -> dict[str, Any] | None:
    for _ in range(2):
        step = measure(peer, server, rate, _SECONDS)
        steps.append(step)
        fraud.show(f"{peer.name} {rate:.0f}/s", step)
        if step["kept_up"] and step["p99_ms"] <= _P99_MS:
            return step
    return None


def main() -> int:
    """Compare; return 1 when the gateway sustains no rate or a peer a higher one."""
    parser = argparse.ArgumentParser(description="The gateway beside other servers.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", help="names of peers; all of them by default")
    given = parser.parse_args()
    chosen = [peer for peer in PEERS if not given.only or peer.name in given.only]
    rows = [knee(peer) for peer in (OURS, *chosen)]
    ours = rows[0]["knee_per_s"]
    print(f"\n{'server':<20}{'knee':>9}{'p99':>10}{'CPU/request':>14}{'ours is':>10}")
    for row in rows:
        row["ours_is"] = round(ours / row["knee_per_s"], 2) if row["knee_per_s"] else None
        print(
            f"{row['name']:<20}{row['knee_per_s']:>7.0f}/s{row['p99_ms'] or 0:>7.1f} ms"
            f"{row['cpu_us_per_request'] or 0:>11.0f} us{row['ours_is'] or 0:>9.2f}x"
        )
    save(given.json, {"peers": rows})
    return 0 if ours and all(ours >= row["knee_per_s"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
