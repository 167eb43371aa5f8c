"""One model's candidates against its reference: answers, speed, memory, start."""

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
from runners.optimize.chain import FILE, Stage
from runners.optimize.gate import Check, Measured, checks, why_not
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
    """One chain's end.

    Attributes:
        name: the passes, joined.
        stages: what each pass made; empty when one could not.
        judgement, measured, checks: None and empty when there is nothing to judge.
        failed: why there is nothing.
    """

    name: str
    stages: Sequence[Stage]
    judgement: Judgement | None = None
    measured: Measured | None = None
    checks: Sequence[Check] = ()
    failed: str | None = None

    @property
    def why_not(self) -> list[str]:
        """Why it may not serve; empty when it may."""
        return [self.failed] if self.failed else why_not(list(self.checks))

    @property
    def speedup(self) -> float:
        """At one row."""
        return self.measured.latency[1]["speedup"] if self.measured else 0.0


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate's files and what was found of its answers."""

    stages: Sequence[Stage]
    folder: Path | None
    judgement: Judgement | None
    failed: str | None = None


class Trial:
    """Candidates of one model against its reference."""

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

    def judged(self, stages: Sequence[Stage], place: Path) -> Made:
        """Put the last stage's file into a folder of its own and compare its answers."""
        folder = assembled(self._folder, stages[-1].path, place)
        try:
            found = _outputs(self._name, self._entry, folder, self._task, self._inputs)
            judgement = judge(
                self._entry.task, self._inputs, self._expected, found, self._gate.confidence
            )
        except TurnoutError as error:
            return Made(stages, None, None, f"it cannot be judged: {error}")
        return Made(stages, folder, judgement)

    def measured(self, made: Mapping[str, Made]) -> list[Candidate]:
        """Time every candidate and the reference in one process, run by run in turn."""
        reference: probe.File = (_plain(_reference(self._entry)), self._folder)
        files = {
            name: (_plain(self._entry), one.folder)
            for name, one in made.items()
            if one.folder is not None
        }
        both = probe.compare({"reference": reference, **files}, BATCHES) if files else {}
        alone = {
            name: probe.alone(file, max(BATCHES))
            for name, file in {"reference": reference, **files}.items()
        }
        candidates: list[Candidate] = []
        for name, one in made.items():
            if one.judgement is None or name not in files:
                candidates.append(Candidate(name, one.stages, failed=one.failed))
                continue
            costs = _costs(name, both, alone, (self._folder, files[name][1]))
            lines = checks(self._gate, self._inputs.independent, one.judgement, costs)
            candidates.append(Candidate(name, one.stages, one.judgement, costs, lines))
        return candidates


def _costs(
    name: str,
    both: Mapping[str, Mapping[str, Mapping[str, float]]],
    alone: Mapping[str, Mapping[str, float]],
    folders: tuple[Path, Path],
) -> Measured:
    latency = {
        int(rows): {
            "reference_ms": row["reference"]["median_ms"],
            "candidate_ms": row[name]["median_ms"],
            "reference_p95_ms": row["reference"]["p95_ms"],
            "candidate_p95_ms": row[name]["p95_ms"],
            "speedup": row[name]["speedup"],
        }
        for rows, row in both.items()
    }
    own, reference = alone[name], alone["reference"]
    return Measured(
        latency,
        round(own["start_ms"], 2),
        round(reference["start_ms"], 2),
        own["memory_bytes"],
        reference["memory_bytes"],
        (folders[1] / FILE).stat().st_size,
        (folders[0] / FILE).stat().st_size,
    )


def assembled(folder: Path, model: Path, out: Path) -> Path:
    """An artefact's folder with another model file: what does not run is left out."""
    out.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in _LEFT_OUT:
            shutil.copyfile(path, out / path.name)
    shutil.copyfile(model, out / FILE)
    return out


_LEFT_OUT = frozenset({FILE, "model.pt2", "artifact.json", "model.yaml", "report.json",
                       "report.html"})  # fmt: skip


def _outputs(name: str, entry: Model, folder: Path, task: TensorTask, inputs: Inputs) -> Tensors:
    """The model's own outputs for every input, a few rows at a time."""
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
    """The entry as the reference runs it: TensorRT is held against ONNX Runtime on the CPU."""
    if entry.runner.engine == "onnx":
        return entry
    plain = _plain(entry) | {"runner": {"engine": "onnx", "threads": entry.runner.threads}}  # type: ignore[union-attr]
    return Model.model_validate(plain)


def _plain(entry: Model) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_none=True)
