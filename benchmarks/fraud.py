"""Measure fraud scoring through the gateway: latency, the knee, overload, CPU against a bare app.

    python -m benchmarks.fraud [--json FILE] [--seconds 60] [--knee] [--bare] [--overload]

One row a request, JSON Open Inference, open loop, the generator on the same cores. ``--bare`` adds
the floor: an ASGI function calling the same ONNX session under the same uvicorn, measured in turn
with the gateway. ``--overload`` offers three times the knee for 30 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.open_loop import Result, http_request, run
from benchmarks.overload import overload
from benchmarks.provenance import save
from benchmarks.servers import Server, free_port, running

PATH = "/v2/models/fraud/infer"
_KNEE_RATES = (2000, 2500, 3000, 3500, 4000, 4500, 5000, 6000, 7000, 8000, 9000, 10_000)
_KNEE_SECONDS = 5.0
_KNEE_P99_MS = 100.0
_WARM_SECONDS = 3.0
_ROUNDS = 3
_ROUND_SECONDS = 5.0


def requests(address: str, path: str, count: int = 512) -> list[bytes]:
    """Return different transactions as HTTP bytes."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(count):
        row = [round(float(value), 3) for value in rng.lognormal(2.0, 1.2, 15)]
        tensor = {"name": "features", "datatype": "FP32", "shape": [1, 15], "data": row}
        made.append(http_request(address + path, json.dumps({"inputs": [tensor]}).encode()))
    return made


def measure(server: Server, path: str, rate: float, seconds: float) -> dict[str, Any]:
    """Run one measurement, with the server's CPU per request."""
    batch = requests(server.address, path)
    before_s = server.cpu_s()
    result: Result = uvloop.run(run(server.address + path, batch, rate, seconds))
    used_s = server.cpu_s() - before_s
    answered = max(sum(n for s, n in result.statuses.items() if s != "unanswered"), 1)
    return result.as_json() | {"cpu_us_per_request": round(used_s / answered * 1e6, 1)}


def knee(server: Server, path: str) -> list[dict[str, Any]]:
    """Raise the rate until p99 exceeds 100 ms or the server falls behind, twice at one rate."""
    steps: list[dict[str, Any]] = []
    for rate in _KNEE_RATES:
        for _ in range(2):
            step = measure(server, path, rate, _KNEE_SECONDS)
            steps.append(step)
            show(f"knee {rate}/s", step)
            if held([step]):
                break
        else:
            break
    return steps


def show(name: str, step: dict[str, Any]) -> None:
    """Print one line of a result."""
    print(
        f"{name:<24} offered {step['offered']:>6.0f}/s  achieved {step['achieved']:>7.1f}/s  "
        f"p50 {step['p50_ms']:>7.2f} ms  p99 {step['p99_ms']:>8.2f} ms  "
        f"CPU {step['cpu_us_per_request']:>6.1f} us/request  {step['statuses']}",
        flush=True,
    )


def beside_bare(gateway: Server, path: str, rate: float) -> dict[str, Any]:
    """Measure the CPU per request of the gateway and of the bare app, round by round, both warm."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare", "--port", str(port)]
    rounds: list[dict[str, Any]] = []
    with running(command, port, "/readyz") as bare:
        measure(bare, path, 500, _WARM_SECONDS)
        for _ in range(_ROUNDS):
            ours = measure(gateway, path, rate, _ROUND_SECONDS)
            floor = measure(bare, path, rate, _ROUND_SECONDS)
            show("gateway", ours)
            show("bare ASGI + ONNX Runtime", floor)
            ratio = ours["cpu_us_per_request"] / floor["cpu_us_per_request"]
            rounds.append({"gateway": ours, "bare": floor, "cpu_ratio": round(ratio, 2)})
    ratio = statistics.median(each["cpu_ratio"] for each in rounds)
    print(f"CPU a request: {ratio:.2f} x the bare handler (median of {_ROUNDS} rounds)")
    return {"cpu_ratio_to_bare": ratio, "rounds": rounds}


def held(steps: list[dict[str, Any]]) -> float:
    """Return the highest rate kept up with p99 within 100 ms; 0 when none was."""
    good = [s["offered"] for s in steps if s["kept_up"] and s["p99_ms"] <= _KNEE_P99_MS]
    return max(good, default=0.0)


def main() -> int:
    """Run the chosen measurements; return 1 when a rate was not reached."""
    parser = argparse.ArgumentParser(description="Card transactions through the gateway.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--knee", action="store_true", help="rising rates until p99 is over 100 ms")
    parser.add_argument("--bare", action="store_true", help="CPU beside a bare ASGI handler")
    parser.add_argument("--overload", action="store_true", help="three times the knee")
    given = parser.parse_args()
    result: dict[str, Any] = {}
    path = PATH
    port = free_port()
    serve = [str(Path(sys.executable).parent / "bentoml"), "serve"]
    with running(serve, port, "/v2/models/fraud-large/ready", PORT=str(port),
                 TURNOUT_CATALOG="benchmarks/fraud.yaml") as server:  # fmt: skip
        measure(server, path, 500, _WARM_SECONDS)
        result["realtime"] = measure(server, path, given.rate, given.seconds)
        show("gateway", result["realtime"])
        if given.bare:
            result |= beside_bare(server, path, given.rate)
        if given.knee or given.overload:
            result["knee"] = knee(server, path)
            result["knee_rate"] = held(result["knee"])
        if given.overload and result["knee_rate"]:
            batch = requests(server.address, path)
            result["overload"] = overload(server, server.address + path, batch, result["knee_rate"])
            print(json.dumps(result["overload"], indent=2))
    save(given.json, result)
    return 0 if result["realtime"]["kept_up"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
