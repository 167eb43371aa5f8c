"""Measure the coverage of predicted latency quantiles in a replay of recorded LLM arrivals.

    python -m benchmarks.latency_replay --arrivals FILE --json OUT

FILE is a parquet with ``arrival_s, input_tokens, output_tokens`` (for instance Azure's public LLM
inference trace). The engine is simulated: a number of slots, prefill time by prompt length, decode
time by how many slots are busy, log-normal noise, and a machine that turns 1.6 x slower for a
quarter of the run. The predictor knows none of that: it starts from the catalog's priors and learns
from answers as the gateway does, each only after it has come. A request whose predicted p95 is over
15 s is refused at the door, as the gateway would.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.provenance import save
from routing.latency import Busy, Demand, ModelLatency, Spread

_EXPECTED_OUTPUT = 128.0
_WARM = 500
_DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Engine:
    """The simulated engine; the predictor sees only its outputs."""

    slots: int = 24
    prefill_s: float = 0.00012
    base_s: float = 0.03
    token_s: float = 0.012
    crowd: float = 0.6
    sigma: float = 0.15


@dataclass(frozen=True, slots=True)
class _Seen:
    index: int
    spread: Spread
    first_s: float
    prefill_s: float
    input_tokens: float


def replay(table: pd.DataFrame, engine: Engine, seed: int = 0) -> dict[str, Any]:
    """Replay arrivals; return the share of first tokens within the predicted p50, p95 and p99."""
    rng = np.random.default_rng(seed)
    latency = ModelLatency(0.05, 0.0005, 0.02)
    arrivals = table["arrival_s"].tolist()
    slow_from, slow_to = arrivals[-1] * 0.5, arrivals[-1] * 0.75
    free = [0.0] * engine.slots
    heapq.heapify(free)
    running: list[tuple[float, float]] = []
    queued: list[float] = []
    pending: list[tuple[float, int, _Seen]] = []
    held: list[tuple[bool, bool, bool]] = []
    refused = 0
    lengths = zip(table["input_tokens"].tolist(), table["output_tokens"].tolist(), strict=True)
    for index, (now_s, (read, written)) in enumerate(zip(arrivals, lengths, strict=True)):
        while pending and pending[0][0] <= now_s:
            _learn(latency, heapq.heappop(pending)[2], held)
        while running and running[0][0] <= now_s:
            latency.observe_turn(heapq.heappop(running)[1])
        while queued and queued[0] <= now_s:
            heapq.heappop(queued)
        busy = Busy(len(queued), min(len(running) - len(queued), engine.slots), engine.slots)
        demand = Demand(float(read), _EXPECTED_OUTPUT)
        spread = latency.predict(demand, busy)
        if spread.p95_s > _DEADLINE_S:
            refused += 1
            continue
        begin_s = max(now_s, heapq.heappop(free))
        slow = 1.6 if slow_from < begin_s < slow_to else 1.0
        noise = (rng.lognormal(0.0, engine.sigma, 2) * slow).tolist()
        prefill_s = (engine.base_s + engine.prefill_s * read) * noise[0]
        crowd = 1.0 + engine.crowd * busy.running / engine.slots
        end_s = begin_s + prefill_s + written * engine.token_s * crowd * noise[1]
        heapq.heappush(free, end_s)
        heapq.heappush(running, (end_s, end_s - begin_s))
        if begin_s > now_s:
            heapq.heappush(queued, begin_s)
        first_s = begin_s + prefill_s
        seen = _Seen(index, spread, first_s - now_s, prefill_s, float(read))
        heapq.heappush(pending, (first_s, index, seen))
    marks = np.array(held[_WARM:], float)
    return {
        "requests": len(table),
        "refused": refused,
        "judged": len(marks),
        **{
            f"within_p{name}": round(float(marks[:, column].mean()), 4)
            for column, name in enumerate((50, 95, 99))
        },
        "within_p95_by_quarter": [
            round(float(part[:, 1].mean()), 4) for part in np.array_split(marks, 4)
        ],
    }


def _learn(latency: ModelLatency, seen: _Seen, held: list[tuple[bool, bool, bool]]) -> None:
    spread = seen.spread
    held.append(
        (
            seen.first_s <= spread.p50_s,
            seen.first_s <= spread.p95_s,
            seen.first_s <= spread.p99_s,
        )
    )
    latency.observe_run(seen.input_tokens, seen.prefill_s)
    latency.observe_answer(spread, seen.first_s)


def main() -> int:
    """Replay light and heavy load; return 1 when a p95 misses 95 % by more than two points."""
    parser = argparse.ArgumentParser(description="Coverage of predicted quantiles.")
    parser.add_argument("--arrivals", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    table = pd.read_parquet(given.arrivals)
    result: dict[str, Any] = {}
    for name, slots in (("light", 40), ("busy", 24), ("overloaded at times", 18)):
        found = result[name] = replay(table, Engine(slots=slots))
        print(
            f"{name:<20} {found['judged']} answers, {found['refused']} refused: "
            f"within p50 {found['within_p50']:.1%}, "
            f"p95 {found['within_p95']:.1%} (by quarter "
            f"{', '.join(f'{v:.1%}' for v in found['within_p95_by_quarter'])}), "
            f"p99 {found['within_p99']:.1%}"
        )
    save(given.json, {"replay": result})
    return 0 if all(abs(one["within_p95"] - 0.95) <= 0.02 for one in result.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
