"""Measure process start to ready: the gateway, and ``bentoml serve`` of a trivial service.

    python -m benchmarks.gateway_start --json benchmarks/results/gateway_start.json

The two alternate, so that whatever else the machine does hits both. Ready is the first 200 of
``/readyz``: for the gateway, every model of the most urgent class has run a row. Artefacts are
built before (``make setup``). ``all_s`` is when the gateway's slowest model is up as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil

from benchmarks.launches import installed, wait_idle
from benchmarks.provenance import save
from benchmarks.servers import PROJECT, cpu_s, end, free_port
from turnout.catalog import load

TARGET_RATIO = 1.3
_LIMIT_S = 120.0
_POLL_S = 0.01
_BENTOML = (str(Path(sys.executable).parent / "bentoml"), "serve")


@dataclass(frozen=True, slots=True)
class Start:
    """The measurements of one start.

    Attributes:
        ready_s: to the first 200 of ``/readyz``.
        all_s: to the last model being up.
        cpu_s: CPU seconds of all its processes until ready.
    """

    ready_s: float
    all_s: float
    cpu_s: float


def main() -> None:
    """Measure, print, and return 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--catalog", type=Path, default=PROJECT / "catalog" / "default.yaml")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument(
        "--idle", type=float, default=0.0, help="share of the cores to wait for before each run"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    models = tuple(load(options.catalog).models)
    ours = {"TURNOUT_CATALOG": str(options.catalog.resolve())}
    runs: dict[str, list[Start]] = {"bentoml serve, trivial": [], "gateway": []}
    trivial, gateway = runs.values()
    for turn in range(options.runs + 1):
        wait_idle(options.idle)
        plain = start((*_BENTOML, "benchmarks.trivial_service:Trivial"), (), {})
        wait_idle(options.idle)
        whole = start(_BENTOML, models, ours)
        if turn:  # the first round warms the page cache
            trivial.append(plain)
            gateway.append(whole)
    result = summary(trivial, gateway)
    for name, value in result.items():
        print(f"{name}: {value}")
    save(options.json, result)
    sys.exit(not result["met"])


def summary(trivial: Sequence[Start], gateway: Sequence[Start]) -> dict[str, Any]:
    """Return the medians of both, and the median ratio over rounds."""
    ratios = [ours.ready_s / plain.ready_s for ours, plain in zip(gateway, trivial, strict=True)]
    ratio = round(statistics.median(ratios), 3)
    return {
        "runs": len(ratios),
        "trivial": _medians(trivial),
        "gateway": _medians(gateway),
        "ratio": ratio,
        "ratios": [round(one, 3) for one in ratios],
        "target_ratio": TARGET_RATIO,
        "met": ratio <= TARGET_RATIO,
    }


def start(command: Sequence[str], models: Sequence[str], environment: dict[str, str]) -> Start:
    """Start a server, wait until it and these models are ready, and stop it.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    port = free_port()
    env = installed() | {"BENTOML_DO_NOT_TRACK": "True", "PORT": str(port)} | environment
    arguments = command if models else (*command, "--port", str(port), "--host", "127.0.0.1")
    started_s = time.monotonic()
    process = subprocess.Popen(
        arguments, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port, "/readyz", started_s + _LIMIT_S)
        ready_s = time.monotonic() - started_s
        used_s = cpu_s(psutil.Process(process.pid))
        for model in models:
            _wait(process, port, f"/v2/models/{model}/ready", started_s + _LIMIT_S)
        return Start(ready_s, time.monotonic() - started_s, used_s)
    finally:
        end(process)


def _wait(process: subprocess.Popen[bytes], port: int, path: str, until_s: float) -> None:
    while not _says_yes(port, path):
        if process.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError(f"{process.args} did not come to answer {path}")
        time.sleep(_POLL_S)


def _says_yes(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _medians(starts: Sequence[Start]) -> dict[str, float]:
    return {
        name: round(statistics.median(getattr(one, name) for one in starts), 3)
        for name in ("ready_s", "all_s", "cpu_s")
    }


if __name__ == "__main__":
    os.chdir(PROJECT)
    main()
