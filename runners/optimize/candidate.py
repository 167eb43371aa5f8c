"""Compare one model's candidates with its reference: outputs, speed, memory and start."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.engines import make
from runners.optimize import probe
from runners.optimize.accuracy import Judgement, judge
from runners.optimize.chain import FILE, PassResult
from runners.optimize.gate import Check, Measurements, checks, why_not
from runners.tasks.outputs import OutputMismatch, check_rows
from turnout.catalog import Gate, Model
from turnout.errors import ArtifactInvalid, RunFailed, TurnoutError

if TYPE_CHECKING:
    from runners.optimize.input_types import Inputs
    from runners.tasks import TensorTask
    from turnout.types import Tensors

BATCHES = (1, 8)
_RUN_ROWS = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chain's model with its comparison, its costs and the gate's checks.

    Attributes:
        name: the passes' names, joined.
        stages: the result of each pass; empty when one failed.
        judgement, measured, checks: None and empty when a pass or the comparison failed.
        failed: the reason of that failure.
    """

    name: str
    stages: Sequence[PassResult]
    judgement: Judgement | None = None
    measured: Measurements | None = None
    checks: Sequence[Check] = ()
    failed: str | None = None

    @property
    def why_not(self) -> list[str]:
        """Return the reasons why it may not serve; empty when it may."""
        return [self.failed] if self.failed else why_not(list(self.checks))

    @property
    def speedup(self) -> float:
        """Return the speed-up at one row."""
        return self.measured.latency[1]["speedup"] if self.measured else 0.0


@dataclass(frozen=True, slots=True)
class ChainResult:
    """The files of a chain's model and the comparison of its outputs, before it is timed."""

    stages: Sequence[PassResult]
    folder: Path | None
    judgement: Judgement | None
    failed: str | None = None


class CandidateEvaluator:
    """Compares candidates of one model with its reference."""

    def __init__(
        self,
        name: str,
        entry: Model,
        folder: Path,
        task: TensorTask,
        inputs: Inputs,
        gate: Gate,
    ) -> None:
        self._name = name
        self._entry = entry
        self._folder = folder
        self._task = task
        self._inputs = inputs
        self._gate = gate
        self._expected = _outputs(name, _reference(entry), folder, task, inputs)

    def evaluate(self, stages: Sequence[PassResult], place: Path) -> ChainResult:
        """Put the last pass's file into a folder of its own and compare its outputs."""
        folder = assemble_folder(self._folder, stages[-1].path, place)
        try:
            outputs = _outputs(self._name, self._entry, folder, self._task, self._inputs)
            judgement = judge(
                self._entry.task, self._inputs, self._expected, outputs, self._gate.confidence
            )
        except TurnoutError as error:
            return ChainResult(stages, None, None, f"it cannot be judged: {error}")
        return ChainResult(stages, folder, judgement)

    def measure(self, results: Mapping[str, ChainResult]) -> list[Candidate]:
        """Time all candidates and the reference in one process, alternating run by run."""
        reference: probe.File = (_plain(_reference(self._entry)), self._folder)
        files = {
            name: (_plain(self._entry), result.folder)
            for name, result in results.items()
            if result.folder is not None
        }
        timings = probe.compare({"reference": reference, **files}, BATCHES) if files else {}
        costs_alone = {
            name: probe.alone(file, max(BATCHES))
            for name, file in {"reference": reference, **files}.items()
        }
        candidates: list[Candidate] = []
        for name, result in results.items():
            if result.judgement is None or name not in files:
                candidates.append(Candidate(name, result.stages, failed=result.failed))
                continue
            costs = _costs(name, timings, costs_alone, (self._folder, files[name][1]))
            lines = checks(self._gate, self._inputs.independent, result.judgement, costs)
            candidates.append(Candidate(name, result.stages, result.judgement, costs, lines))
        return candidates


def _costs(
    name: str,
    timings: Mapping[str, Mapping[str, Mapping[str, float]]],
    costs_alone: Mapping[str, Mapping[str, float]],
    folders: tuple[Path, Path],
) -> Measurements:
    latency = {
        int(rows): {
            "reference_ms": row["reference"]["median_ms"],
            "candidate_ms": row[name]["median_ms"],
            "reference_p95_ms": row["reference"]["p95_ms"],
            "candidate_p95_ms": row[name]["p95_ms"],
            "speedup": row[name]["speedup"],
        }
        for rows, row in timings.items()
    }
    candidate, reference = costs_alone[name], costs_alone["reference"]
    return Measurements(
        latency,
        round(candidate["start_ms"], 2),
        round(reference["start_ms"], 2),
        candidate["memory_bytes"],
        reference["memory_bytes"],
        (folders[1] / FILE).stat().st_size,
        (folders[0] / FILE).stat().st_size,
    )


def assemble_folder(folder: Path, model: Path, out: Path) -> Path:
    """Write an artefact's folder with another model file, without the files that are not run."""
    out.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in _LEFT_OUT:
            shutil.copyfile(path, out / path.name)
    shutil.copyfile(model, out / FILE)
    return out


_LEFT_OUT = frozenset({FILE, "model.pt2", "artifact.json", "model.yaml", "report.json",
                       "report.html"})  # fmt: skip


def _outputs(name: str, entry: Model, folder: Path, task: TensorTask, inputs: Inputs) -> Tensors:
    """Return the model's own outputs for every input, computed a few rows at a time."""
    runner: Any = make(name, entry, folder)
    runner.load()
    parts: list[Tensors] = []
    try:
        for first in range(0, len(inputs), _RUN_ROWS):
            rows = np.arange(first, min(first + _RUN_ROWS, len(inputs)))
            part = runner.run(task.prepare(inputs.take(rows).tensors))
            check_rows(part, len(rows))
            parts.append(part)
    except RunFailed as error:
        raise ArtifactInvalid(
            f"{folder / FILE} cannot run on these inputs: {error.problem}"
        ) from error
    except OutputMismatch as error:
        raise ArtifactInvalid(f"{folder / FILE}: {error}") from error
    finally:
        runner.close()
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _reference(entry: Model) -> Model:
    """Return the reference's entry; TensorRT is compared with ONNX Runtime on the CPU."""
    if entry.runner.engine == "onnx":
        return entry
    plain = _plain(entry) | {"runner": {"engine": "onnx", "threads": entry.runner.threads}}  # type: ignore[union-attr]
    return Model.model_validate(plain)


def _plain(entry: Model) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_none=True)
