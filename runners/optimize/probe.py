"""Measure the speed, memory and start of model files in separate processes.

    python -m runners.optimize.probe < order.json

Files are timed alternately, run by run, so that other load on the machine hits all of them; a
file's memory and start are measured in a process that does nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime  # noqa: F401 - its import is no part of a model's start

from runners.engines import make
from runners.engines.load_cost import resident_bytes
from runners.profiling.measuring_process import run_measurement
from runners.tasks import load_task
from turnout.catalog import Model
from turnout.errors import ArtifactInvalid

File: TypeAlias = tuple[Mapping[str, Any], Path]
"""A catalog entry as plain data (its engine and task), and an artefact's folder."""

_TIMEOUT_S = 600.0
_MIN_RUNS, _MAX_RUNS = 5, 200
_BUDGET_S = 3.0
_STARTS = 3


def compare(
    files: Mapping[str, File], batches: Sequence[int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the milliseconds of a run of each file, by batch: median and 95th percentile.

    Args:
        files: by name; the first is the reference.
        batches: rows of a run.

    Returns:
        by batch (as text) and name: ``median_ms``, ``p95_ms``, and ``speedup``, the median over
        rounds of the first's time by this one's.
    """
    return _run({"what": "compare", "batches": list(batches)}, files)


def alone(file: File, rows: int) -> dict[str, float]:
    """Return the costs of one file in a fresh process.

    Returns:
        ``start_ms`` (session open to first answer, imports done; the median of a few),
        ``memory_bytes`` (resident, added by the first load and one run of ``rows``).
    """
    return _run({"what": "alone", "rows": rows}, {"alone": file})


def _run(measurement: Mapping[str, Any], files: Mapping[str, File]) -> Any:
    order = {
        **measurement,
        "files": {name: [entry, str(at)] for name, (entry, at) in files.items()},
    }
    return run_measurement(
        "runners.optimize.probe",
        order,
        lambda why: ArtifactInvalid(f"measuring {', '.join(files)} failed: {why}"),
        _TIMEOUT_S,
    )


def _main() -> None:
    order = json.load(sys.stdin)
    measure = {"compare": _compare, "alone": _alone}[order["what"]]
    sys.stdout.write(json.dumps(measure(order)))


def _alone(order: Mapping[str, Any]) -> dict[str, float]:
    runner, task = _opened(*order["files"]["alone"])
    example, batch = task.example(1), task.example(order["rows"])
    before = resident_bytes()
    starts_ms: list[float] = []
    memory = 0
    for _ in range(_STARTS):
        started_s = time.perf_counter()
        runner.load()
        runner.run(example)
        starts_ms.append((time.perf_counter() - started_s) * 1e3)
        if not memory:
            runner.run(batch)
            memory = max(resident_bytes() - before, 1)
        runner.close()
    return {"start_ms": float(np.median(starts_ms)), "memory_bytes": memory}


def _compare(order: Mapping[str, Any]) -> dict[str, Any]:
    opened = {name: _opened(*file) for name, file in order["files"].items()}
    for runner, _ in opened.values():
        runner.load()
    reference = next(iter(opened))
    timings: dict[str, Any] = {}
    for rows in order["batches"]:
        example = opened[reference][1].example(rows)
        spent: dict[str, list[float]] = {name: [] for name in opened}
        for runner, _ in opened.values():
            runner.run(example)
        ends_s = time.perf_counter() + _BUDGET_S
        while len(spent[reference]) < _MIN_RUNS or (
            time.perf_counter() < ends_s and len(spent[reference]) < _MAX_RUNS
        ):
            for name, (runner, _) in opened.items():
                started_s = time.perf_counter()
                runner.run(example)
                spent[name].append(time.perf_counter() - started_s)
        base = np.array(spent[reference])
        timings[str(rows)] = {
            name: {
                "median_ms": round(float(np.median(times)) * 1e3, 4),
                "p95_ms": round(float(np.quantile(times, 0.95)) * 1e3, 4),
                "speedup": round(float(np.median(base / np.array(times))), 3),
                "runs": len(times),
            }
            for name, times in spent.items()
        }
    return timings


def _opened(entry: Mapping[str, Any], folder: str) -> tuple[Any, Any]:
    model = Model.model_validate(entry)
    return make("probe", model, Path(folder)), load_task(model.task, Path(folder))


if __name__ == "__main__":
    _main()
