"""Card transactions through the gateway: latency at a rate, the knee, CPU beside a bare handler.

    python -m benchmarks.fraud --json FILE [--rate 1000] [--seconds 60] [--knee] [--bare]

One row a request, JSON Open Inference, open loop, the generator on the same cores. ``--bare`` adds
the floor: an ASGI function calling the same ONNX session under the same uvicorn.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.open_loop import Result, http_request, run
from benchmarks.provenance import save
from benchmarks.servers import Server, free_port, running

_KNEE_RATES = (1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000)
_KNEE_SECONDS = 10.0
_KNEE_P99_MS = 100.0
_WARM_SECONDS = 5.0


def requests(address: str, path: str, count: int = 512) -> list[bytes]:
    """Different transactions, as HTTP bytes."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(count):
        row = [round(float(value), 3) for value in rng.lognormal(2.0, 1.2, 15)]
        tensor = {"name": "features", "datatype": "FP32", "shape": [1, 15], "data": row}
        made.append(http_request(address + path, json.dumps({"inputs": [tensor]}).encode()))
    return made


def measure(server: Server, path: str, rate: float, seconds: float) -> dict[str, Any]:
    """One run, with the server's CPU a request."""
    batch = requests(server.address, path)
    before_s = server.cpu_s()
    result: Result = uvloop.run(run(server.address + path, batch, rate, seconds))
    used_s = server.cpu_s() - before_s
    answered = max(sum(n for s, n in result.statuses.items() if s != "unanswered"), 1)
    return result.as_json() | {"cpu_us_per_request": round(used_s / answered * 1e6, 1)}


def knee(server: Server, path: str) -> list[dict[str, Any]]:
    """Rising rates until p99 passes 100 ms or the server falls behind."""
    steps = []
    for rate in _KNEE_RATES:
        step = measure(server, path, rate, _KNEE_SECONDS)
        steps.append(step)
        show(f"knee {rate}/s", step)
        if not step["kept_up"] or step["p99_ms"] > _KNEE_P99_MS:
            break
    return steps


def show(name: str, step: dict[str, Any]) -> None:
    """One line of a result."""
    print(
        f"{name:<24} offered {step['offered']:>6.0f}/s  achieved {step['achieved']:>7.1f}/s  "
        f"p50 {step['p50_ms']:>7.2f} ms  p99 {step['p99_ms']:>8.2f} ms  "
        f"CPU {step['cpu_us_per_request']:>6.1f} us/request  {step['statuses']}",
        flush=True,
    )


def main() -> int:
    """Run what was asked for; 1 when the rate was not reached."""
    parser = argparse.ArgumentParser(description="Card transactions through the gateway.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--knee", action="store_true")
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args()
    result: dict[str, Any] = {}
    path = "/v2/models/fraud/infer"
    port = free_port()
    python = sys.executable
    serve = [str(Path(python).parent / "bentoml"), "serve"]
    with running(serve, port, "/v2/models/fraud-large/ready", PORT=str(port),
                 TURNOUT_CATALOG="benchmarks/fraud.yaml") as server:  # fmt: skip
        measure(server, path, 500, _WARM_SECONDS)
        result["realtime"] = measure(server, path, given.rate, given.seconds)
        show("gateway", result["realtime"])
        if given.knee:
            result["knee"] = knee(server, path)
    if given.bare:
        port = free_port()
        command = [python, "-m", "benchmarks.bare", "--port", str(port)]
        with running(command, port, "/readyz") as server:
            measure(server, path, 500, _WARM_SECONDS)
            result["bare"] = measure(server, path, given.rate, min(given.seconds, 20.0))
            show("bare ASGI + ONNX Runtime", result["bare"])
        ratio = result["realtime"]["cpu_us_per_request"] / result["bare"]["cpu_us_per_request"]
        result["cpu_ratio_to_bare"] = round(ratio, 2)
        print(f"CPU a request: {ratio:.2f} x the bare handler")
    save(given.json, result)
    return 0 if result["realtime"]["kept_up"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
