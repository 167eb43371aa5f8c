"""Measure the CPU microseconds of one decision on the gateway's thread.

    python -m benchmarks.decide --json FILE

The plane of ``catalog/default.yaml`` over backends that do nothing: what is measured is looking at
a request, the predictions, the policy and the record, without protocol, engine or metrics. The
reference in the same run is reading the same JSON body, which every request pays anyway.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from prometheus_client import CollectorRegistry

from benchmarks.provenance import save
from routing.decision.request_view import RequestAnalyzer
from runners.protocol import ActiveEngine, BackendLoad, RunTimes, TensorResult, Ticket
from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.fleet.fleet import Fleet
from services.metrics.metrics import Metrics
from turnout.catalog import Catalog, Model, load
from turnout.types import Generation, Message, Piece, Request, Task, Tensors

_CATALOG = Path(__file__).parents[1] / "catalog" / "default.yaml"
_ROUNDS = 20_000
_BODY = orjson.dumps(
    {"inputs": [{"name": "features", "shape": [1, 15], "datatype": "FP32", "data": [0.5] * 15}]}
)


class Idle:
    """A backend without work."""

    active = ActiveEngine("none", "cpu", "cpu")

    def load_now(self) -> BackendLoad:
        """Return no load."""
        return BackendLoad()

    async def start(self) -> None:
        """Do nothing: there is no model to load."""

    async def stop(self) -> None:
        """Do nothing: there is nothing to release."""

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        """Return the input."""
        del ticket
        return TensorResult(tensors, 0.0, 1e-4, 1)

    async def generate(self, generation: Generation, ticket: Ticket) -> AsyncIterator[Piece]:
        """Yield nothing."""
        del generation, ticket
        yield Piece("", finish_reason="stop")


def plane_of(catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> DataPlane:
    """Return a data plane with all models idle and available."""

    def make(name: str, model: Model, latency: RunTimes) -> Idle:
        del name, model, latency
        return Idle()

    fleet = Fleet(catalog, make)
    for member in fleet.members.values():
        member.ready.set()
    metrics = Metrics(CollectorRegistry())
    return DataPlane(catalog, fleet, RequestAnalyzer(catalog), metrics, DecisionLog(), clock)


def microseconds(work: Callable[[int], object], rounds: int = _ROUNDS) -> dict[str, float]:
    """Return the CPU microseconds of a call: the fastest part's mean of ten, and the median."""
    size = rounds // 10
    means: list[float] = []
    for part in range(10):
        began_s = time.process_time()
        for index in range(part * size, (part + 1) * size):
            work(index)
        means.append((time.process_time() - began_s) / size * 1e6)
    return {"best_us": round(min(means), 2), "median_us": round(float(np.median(means)), 2)}


def measure() -> dict[str, Any]:
    """Return the time of every case, by name."""
    plane = plane_of(load(_CATALOG))
    features: Tensors = {"features": np.zeros((1, 15), np.float32)}
    words = Generation((Message("user", "What is the capital of France? " * 8),))

    def fraud(index: int, step_s: float) -> object:
        now_s = 1000.0 + index * step_s
        return plane.decide(
            Request(str(index), "fraud", Task.TABULAR, features, "realtime", now_s, now_s + 0.1)
        )

    def chat(index: int) -> object:
        now_s = 1000.0 + index
        return plane.decide(
            Request(str(index), "chat", Task.CHAT, words, "interactive", now_s, now_s + 3.0)
        )

    return {
        "reading the JSON body": microseconds(lambda index: orjson.loads(_BODY)),
        "fraud, 1,000 a second": microseconds(lambda index: fraud(index, 0.001)),
        "fraud, each alone": microseconds(lambda index: fraud(index, 1.0)),
        "chat, quality from priors": microseconds(chat),
    }


def main() -> None:
    """Measure, print, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = measure()
    for name, row in found.items():
        print(f"{name:<28} {row['best_us']:8.2f} µs (median {row['median_us']:.2f})")
    save(given.json, {"cases": found})


if __name__ == "__main__":
    main()
