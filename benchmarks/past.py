"""This checkout beside an earlier commit of its own, alternating in one run.

    python -m benchmarks.past [--commit 8e08678] [--rounds 7] [--knee] [--json FILE]
    python -m benchmarks.past --only-fraud --rate 2000 --rounds 12

Fraud scoring (p50, p99 and CPU a request at ``--rate`` a second; with ``--knee`` the highest rate
with p99 within 100 ms), cold start (time and CPU of a whole process) and gateway start (time until
ready). Each figure is the ratio new / old of every pair of runs; the median is what counts. Both
use this environment, the same model store and the same catalog.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import fraud
from benchmarks.clock_face import draw
from benchmarks.provenance import save
from benchmarks.servers import PROJECT, cpu_s, free_port, running

_BENTOML = [str(Path(sys.executable).parent / "bentoml"), "serve", "services.gateway:Gateway"]
_CATALOG = str(PROJECT / "benchmarks" / "fraud.yaml")
_SECONDS = 5.0
_WARM_SECONDS = 4.0

Figures = dict[str, float]


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A work tree of a commit, gone again at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "past"
        git = ["git", "-C", str(PROJECT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


@contextmanager
def _gateway(code: Path) -> Iterator[Any]:
    port = free_port()
    with running(_BENTOML, port, "/v2/models/fraud-large/ready", cwd=code, PORT=str(port),
                 TURNOUT_CATALOG=_CATALOG, PYTHONPATH=str(code)) as server:  # fmt: skip
        yield server


def fraud_scoring(
    past: Path, rounds: int, rate: float, *, knee: bool
) -> Iterator[tuple[Figures, Figures]]:
    """Pairs of figures at one rate a second; both gateways run, one is asked at a time."""
    with _gateway(PROJECT) as new, _gateway(past) as old:
        for server in (new, old):
            fraud.measure(server, fraud.PATH, rate, _WARM_SECONDS)
        for turn in range(rounds):
            pair = [_fraud_figures(server, rate) for server in _in_turn(turn, new, old)]
            yield tuple(_in_turn(turn, *pair))
        if knee:
            rates = [{"knee": fraud.held(fraud.knee(each, fraud.PATH))} for each in (new, old)]
            yield rates[0], rates[1]


def _fraud_figures(server: Any, rate: float) -> Figures:
    step = fraud.measure(server, fraud.PATH, rate, _SECONDS)
    return {name: step[name] for name in ("cpu_us_per_request", "p50_ms", "p99_ms")}


def cold_start(code: Path, image: Path) -> Figures:
    """Wall and CPU seconds of one process that classifies one picture."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun_s = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "services.cold_start", "--image", str(image)],
        cwd=code, env=_environment(code), stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    wall_s = time.monotonic() - begun_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cold_start_s": wall_s, "cold_start_cpu_s": used_s}


def gateway_start(code: Path) -> Figures:
    """Seconds and CPU seconds from the start of ``bentoml serve`` until its models are warm."""
    begun_s = time.monotonic()
    with _gateway(code) as server:
        return {
            "gateway_start_s": time.monotonic() - begun_s,
            "gateway_start_cpu_s": cpu_s(server.process),
        }


def alternating(
    measure: Callable[[Path], Figures], past: Path, rounds: int
) -> Iterator[tuple[Figures, Figures]]:
    """Pairs of figures of this checkout and the past one, after a pair that does not count."""
    for turn in range(rounds + 1):
        pair = [measure(code) for code in _in_turn(turn, PROJECT, past)]
        if turn:
            yield tuple(_in_turn(turn, *pair))


def _in_turn(turn: int, new: Any, old: Any) -> tuple[Any, Any]:
    """Both, their order turned round in every second round."""
    return (new, old) if turn % 2 else (old, new)


def _environment(code: Path) -> Mapping[str, str]:
    return os.environ | {"PYTHONPATH": str(code)}


def summary(pairs: list[tuple[Figures, Figures]]) -> dict[str, Any]:
    """Of each figure: the median of both sides, and the median and range of new / old."""
    result: dict[str, Any] = {}
    for name in dict.fromkeys(name for new, _ in pairs for name in new):
        both = [(new[name], old[name]) for new, old in pairs if name in new]
        ratios = sorted(new / old for new, old in both)
        result[name] = {
            "new": round(statistics.median(new for new, _ in both), 4),
            "old": round(statistics.median(old for _, old in both), 4),
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }
    return result


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="This checkout beside an earlier commit.")
    parser.add_argument("--commit", default="8e08678")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--only-fraud", action="store_true", help="no cold or gateway starts")
    parser.add_argument("--knee", action="store_true", help="also the highest rate, once each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pairs: list[tuple[Figures, Figures]] = []
    with checkout(options.commit) as past, tempfile.TemporaryDirectory() as scratch:
        if not options.only_fraud:
            image = draw(Path(scratch) / "clock.jpg")
            pairs += alternating(lambda code: cold_start(code, image), past, 2 * options.rounds)
            pairs += alternating(gateway_start, past, options.rounds)
        pairs += fraud_scoring(past, options.rounds, options.rate, knee=options.knee)
    result = summary(pairs)
    for name, figure in result.items():
        print(f"{name:<22} new {figure['new']:>9}  old {figure['old']:>9}  ratio {figure['ratio']}")
    save(options.json, {"commit": options.commit, "figures": result})


if __name__ == "__main__":
    main()
