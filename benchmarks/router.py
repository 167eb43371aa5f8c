"""Measure the router on held-out questions: ``python -m benchmarks.router --data DIR``.

DIR holds the outcome tables that ``router_cases.CASES`` names (docs/router.md says where they come
from). Every number is cross-validated: the scores of a test question, or of one with the same
stem, never reach the router that predicts it, nor the pretrained factors it starts from; where
subjects are held back, none of the subject's questions reach the router. No model of either family
of the pair is in the pretraining.

That is a router on prompts nobody has met. ``met`` is the other end: the same router, whose pool
was asked these very questions (by models of other families, never by the pair) and remembers them.
``as_shipped`` is what ``turnout router train`` gives on this table: the pool that ships, and test
questions held back at random, whatever their stems.

Three questions in ten (by a hash of the stem) were put aside before the present recipe was chosen:
``fresh`` are the numbers on those alone. The others took part in choosing it.

Gains are ranked within each fold, since each fold's router is used alone (not where subjects are
held back: folds differ there).

Beside the router, on the same folds: prompt length, random, oracle, and a reference made of
well-known parts (TF-IDF with logistic regression, averaged with gradient boosting on the hand-made
features, trained per model). Differences from the reference come with paired intervals.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import save
from benchmarks.router_cases import CASES, DEFAULT_ROUTER, MMLU, Case
from benchmarks.router_measure import measure
from routing.quality import ModelPrior, load_router
from routing.quality.encoder import Encoder
from routing.training.fit import train_router
from routing.training.outcomes import read_outcomes


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and, with ``--json``, save it with commit and hardware."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the outcome tables")
    parser.add_argument("--json", type=Path, help="file to save the results to")
    parser.add_argument("--quick", action="store_true", help="few questions: does it run at all?")
    parser.add_argument("--skip-latency", action="store_true", help="cases only")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="cases side by side, one thread each")
    given = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    print(
        f"{'case':58} length refer. fast  full  [95 %]         full - reference  "
        "fresh: ref. full   met  shipped  target"
    )
    for case, found in measured(
        [case for case in CASES if given.only in case.name], given.data, given.jobs, given.quick
    ):
        results.append(found)
        a, fresh, (low, high) = found["apgr"], found["fresh"], found["full_95"]
        more = found["full_less_reference"]
        shipped = found["as_shipped"]["full"] if found["as_shipped"] else np.nan
        target = f"{case.target:.2f}" if case.target else "  - "
        print(
            f"{case.name:58} {a['length']:.3f}  {a['reference']:.3f}  {a['fast']:.3f} "
            f"{a['full']:.3f} [{low:.3f}, {high:.3f}] {more[0]:+.3f} [{more[1]:+.3f}, "
            f"{more[2]:+.3f}]  {fresh['reference']:.3f} {fresh['full']:.3f}  "
            f"{a.get('met', float('nan')):.3f}  {shipped:.3f}  {target}",
            flush=True,
        )
        _save(given.json, results, [], quick=given.quick)
    if given.skip_latency:
        return
    print("cases done; measuring latency", flush=True)
    latency = measure_latency(given.data / MMLU, quick=given.quick)
    for row in latency:
        print(
            f"decision, {row['tier']} tier, {row['prompts']}: p50 {row['p50_us']:.0f} µs, "
            f"p99 {row['p99_us']:.0f} µs of CPU"
        )
    _save(given.json, results, latency, quick=given.quick)


def measured(
    cases: Sequence[Case], data: Path, jobs: int, quick: bool
) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Yield ``measure`` of each case, in order; cases of one pair share the pretraining.

    Args:
        cases: those of one pair one after the other.
        data: folder of the tables.
        jobs: how many pairs side by side, each in a process of one thread.
        quick: few questions.
    """
    pairs = [list(same) for _, same in groupby(cases, lambda case: (case.table, case.strong))]
    if jobs == 1:
        found = (_measure_pair(same, data, quick) for same in pairs)
        yield from ((case, one) for same in found for case, one in same)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes to come; this one has its threads
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(_measure_pair, same, data, quick) for same in pairs]
        try:
            for each in running:
                yield from each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _measure_pair(
    cases: Sequence[Case], data: Path, quick: bool
) -> list[tuple[Case, dict[str, Any]]]:
    encoders: dict[Hashable, Encoder] = {}
    return [(case, measure(case, data, encoders, quick=quick)) for case in cases]


def _save(
    path: Path | None,
    cases: list[dict[str, Any]],
    latency: list[dict[str, Any]],
    *,
    quick: bool,
) -> None:
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    save(path, {"quick": quick, "threads": threads, "cases": cases, "latency": latency})


def measure_latency(path: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Measure the CPU time of one quality prediction, in this process, with one thread."""
    table = read_outcomes([path])
    router = train_router(
        table.sample(600 if quick else 4000, 0), load_router(DEFAULT_ROUTER).encoder
    )
    models = [ModelPrior(name, 0.5) for name in table.models]
    text = "\n".join(table.prompts)
    sets = {
        "prompts as recorded": list(table.sample(1000, 1).prompts),
        "prompts of 2,000 characters": [text[i * 2000 : (i + 1) * 2000] for i in range(500)],
    }
    rows: list[dict[str, Any]] = []
    for tier, fast in (("real-time", True), ("fuller", False)):
        for name, prompts in sets.items():
            times: list[int] = []
            for prompt in (prompts[:50] + prompts)[: 200 if quick else None]:
                before = time.process_time_ns()
                router.predict(prompt, models, fast=fast)
                times.append(time.process_time_ns() - before)
            p50, p99 = np.quantile(times[50:], [0.5, 0.99]) / 1e3
            rows.append({"tier": tier, "prompts": name, "p50_us": p50, "p99_us": p99})
    return rows


if __name__ == "__main__":
    main()
