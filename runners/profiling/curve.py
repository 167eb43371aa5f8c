"""The batching curve of a model on this host, measured in a process of its own.

    python -m runners.profiling.curve < what.json

Tensor models are run at 1, 2, 4, ... rows on their task's example; text models read prompts of
several lengths and write with one and with all sequences.
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
    """One place on the curve.

    Attributes:
        units: rows of a run, or tokens of a prompt.
        median_ms, p95_ms: of a run.
        memory_bytes: resident in all, after the runs.
    """

    units: int
    median_ms: float
    p95_ms: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured of one model.

    Attributes:
        points: in order of units.
        base_ms, per_unit_ms: the line through them that serving begins with.
        per_token_ms: between two written tokens, one sequence (text only; else 0).
        tokens_per_s: written by so many sequences together (text only).
        provider: what really ran.
        load_ms: the load.
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
        name: in the catalog.
        entry: its catalog entry as plain data.
        folder: its artefact.

    Raises:
        LoadFailed: it could not be loaded or run, in its own words.
    """
    order = {"name": name, "entry": dict(entry), "folder": str(folder) if folder else None}
    found = run_measurement(
        "runners.profiling.curve",
        order,
        lambda why: LoadFailed(name, f"could not be profiled: {why}"),
        _TIMEOUT_S,
    )
    points = [Point(**point) for point in found.pop("points")]
    return Curve(points=points, **found)


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Time of one unit and of each further one: the line with the least relative error.

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
    """1, 2, 4, ... up to and with ``largest``."""
    found = [1]
    while found[-1] * 2 < largest:
        found.append(found[-1] * 2)
    return found if largest == 1 else [*found, largest]


def _timed(run: Callable[[], Any]) -> list[float]:
    """Milliseconds of some runs, after one that does not count."""
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
            found = _text(runner, model.context_tokens)
        else:
            found = _tensors(runner, model, folder)
    finally:
        runner.close()
    curve = Curve(**found, provider=active.provider, load_ms=round(active.load_s * 1e3, 1))
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
    """Prompts of so many words that no cache of prefixes has seen."""
    listed = (_WORDS * (words // 16 + 1)).split()
    for number in range(10_000):
        text = " ".join([str(number), *listed[: words - 1]])
        yield Generation((Message("user", text),), max_tokens=1)


def _prefill(runner: Any, words: int) -> Point:
    """From a new prompt to its first token."""
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
    """Median milliseconds of a step in which ``count`` sequences write."""
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
