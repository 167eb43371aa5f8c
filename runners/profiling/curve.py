"""Measure the batching curve of a model on this host in a separate process.

    python -m runners.profiling.curve < order.json

Tensor models run on 1, 2, 4, ... rows of their task's example. Text models read prompts of several
lengths and generate with one and with more sequences.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runners.engines import make
from runners.engines.load_cost import resident_bytes
from runners.profiling.measuring_process import run_measurement
from runners.tasks import load_task
from turnout.catalog import Model
from turnout.errors import ConfigError, LoadFailed
from turnout.types import Generation, Message

_TIMEOUT_S = 900.0
_MIN_RUNS, _MAX_RUNS, _BUDGET_S = 5, 100, 1.0
_MAX_POINTS_S = 2.0
_WORDS = "the quick brown fox jumps over the lazy dog while the river runs to the sea "


@dataclass(frozen=True, slots=True)
class Point:
    """One measured point of the curve.

    Attributes:
        units: rows of a run, or tokens of a prompt.
        median_ms, p95_ms: the time of a run.
        memory_bytes: the process's resident memory after the runs.
    """

    units: int
    median_ms: float
    p95_ms: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """The measurements of one model.

    Attributes:
        points: in order of units.
        base_ms, per_unit_ms: the line through the points; serving begins with it.
        per_token_ms: the time between two tokens of one sequence (text only; else 0).
        tokens_per_s: by the number of concurrent sequences (text only).
        provider: the execution provider or device that ran.
        load_ms: the duration of the load.
    """

    points: Sequence[Point]
    base_ms: float
    per_unit_ms: float
    per_token_ms: float
    tokens_per_s: Mapping[str, float]
    provider: str
    load_ms: float


def profile(name: str, entry: Mapping[str, Any], folder: Path | None) -> Curve:
    """Measure one model in a fresh process.

    Args:
        name: the model's name in the catalog.
        entry: its catalog entry as plain data.
        folder: the artefact's folder; None for an engine without files.

    Raises:
        LoadFailed: it could not be loaded or run, with the engine's message.
    """
    order = {"name": name, "entry": dict(entry), "folder": str(folder) if folder else None}
    measurement = run_measurement(
        "runners.profiling.curve",
        order,
        lambda why: LoadFailed(name, f"could not be profiled: {why}"),
        _TIMEOUT_S,
    )
    points = [Point(**point) for point in measurement.pop("points")]
    return Curve(points=points, **measurement)


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit the time of one unit and of each further one with the least relative error.

    Args:
        points: units and time, at least one.

    Returns:
        both at least 0, in the unit of the times.
    """
    units = np.array([unit for unit, _ in points], float)
    times = np.array([spent for _, spent in points], float)
    if len(points) == 1:
        return float(times[0]), 0.0
    # Each row divided by its time, so that the error of every point counts relative to it.
    rows = np.stack([np.ones_like(units), units - 1], axis=1) / times[:, None]
    base, slope = np.linalg.lstsq(rows, np.ones_like(times), rcond=None)[0]
    if slope < 0:
        return float(1 / (1 / times).mean()), 0.0
    if base <= 0:
        base = float(times[0])
    return float(base), float(slope)


def sizes(largest: int) -> list[int]:
    """Return 1, 2, 4, ... up to and including ``largest``."""
    powers = [1]
    while powers[-1] * 2 < largest:
        powers.append(powers[-1] * 2)
    return powers if largest == 1 else [*powers, largest]


def _timed(run: Callable[[], Any]) -> list[float]:
    """Return the milliseconds of several runs, after one warm-up run."""
    run()
    spent: list[float] = []
    ends_s = time.perf_counter() + _BUDGET_S
    while len(spent) < _MIN_RUNS or (time.perf_counter() < ends_s and len(spent) < _MAX_RUNS):
        started_s = time.perf_counter()
        run()
        spent.append((time.perf_counter() - started_s) * 1e3)
        if len(spent) >= 2 and spent[-1] > _MAX_POINTS_S * 1e3:
            break
    return spent


def _point(units: int, run: Callable[[], Any]) -> Point:
    spent = np.array(_timed(run))
    return Point(
        units,
        round(float(np.median(spent)), 4),
        round(float(np.quantile(spent, 0.95)), 4),
        resident_bytes(),
    )


def _main() -> None:
    order = json.load(sys.stdin)
    model = Model.model_validate(order["entry"])
    folder = Path(order["folder"]) if order["folder"] else None
    runner: Any = make(order["name"], model, folder)
    active = runner.load()
    try:
        if hasattr(runner, "step"):
            measurement = _text(runner, model.context_tokens)
        else:
            measurement = _tensors(runner, model, folder)
    finally:
        runner.close()
    curve = Curve(**measurement, provider=active.provider, load_ms=round(active.load_s * 1e3, 1))
    sys.stdout.write("\n" + json.dumps(asdict(curve)) + "\n")


def _tensors(runner: Any, model: Any, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        raise ConfigError("an engine without files has no example to run")
    task = load_task(model.task, folder)
    points: list[Point] = []
    for rows in sizes(model.batching.max_rows):
        example = task.example(rows)
        points.append(_point(rows, lambda e=example: task.finish(runner.run(e))))
    base, slope = line([(point.units, point.median_ms) for point in points])
    return {
        "points": points,
        "base_ms": round(base, 4),
        "per_unit_ms": round(slope, 4),
        "per_token_ms": 0.0,
        "tokens_per_s": {},
    }


def _text(runner: Any, context_tokens: int) -> dict[str, Any]:
    points = [
        _prefill(runner, words)
        for words in (8, 32, 128)
        if words * 2 < context_tokens
    ]  # fmt: skip
    base, slope = line([(point.units, point.median_ms) for point in points])
    steps = {count: _step_ms(runner, count) for count in sizes(runner.max_sequences)}
    return {
        "points": points,
        "base_ms": round(base, 4),
        "per_unit_ms": round(slope, 4),
        "per_token_ms": round(steps[1], 4),
        "tokens_per_s": {str(count): round(count * 1e3 / ms, 1) for count, ms in steps.items()},
    }


def _prompts(words: int) -> Iterator[Any]:
    """Yield prompts of ``words`` words that no prefix cache holds."""
    listed = (_WORDS * (words // 16 + 1)).split()
    for number in range(10_000):
        text = " ".join([str(number), *listed[: words - 1]])
        yield Generation((Message("user", text),), max_tokens=1)


def _prefill(runner: Any, words: int) -> Point:
    """Measure the time from a new prompt to its first token."""
    prompts = _prompts(words)
    lengths: list[int] = []

    def run() -> None:
        runner.add(next(prompts))
        while True:
            ended = [s.piece for s in runner.step() if s.piece.finish_reason is not None]
            if ended:
                lengths.append(ended[0].prompt_tokens)
                return

    point = _point(words, run)
    return Point(lengths[-1], point.median_ms, point.p95_ms, point.memory_bytes)


def _step_ms(runner: Any, count: int) -> float:
    """Return the median milliseconds of a decoding step of ``count`` sequences."""
    prompts = _prompts(8)
    sequences = [runner.add(replace(next(prompts), max_tokens=64)) for _ in range(count)]
    begun: set[int] = set()
    while len(begun) < count:
        begun |= {step.sequence for step in runner.step()}
    spent: list[float] = []
    for _ in range(24):
        started_s = time.perf_counter()
        runner.step()
        spent.append((time.perf_counter() - started_s) * 1e3)
    for sequence in sequences:
        runner.remove(sequence)
    return float(np.median(spent))


if __name__ == "__main__":
    _main()
