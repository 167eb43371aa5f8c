"""Study one model: run every chain of passes and judge each result against the reference.

The reference is the artefact as its recipe built it (or its address delivered it), on the same
engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from runners.optimize.candidate import Candidate, CandidateEvaluator, ChainResult
from runners.optimize.chain import FILE, CalibrationSet, Chain, run_chain
from runners.optimize.input_types import Inputs
from runners.optimize.inputs import one_by_one, split_in_halves
from runners.optimize.optimization import Report
from runners.optimize.registry import load_pass
from runners.tasks import load_task
from turnout.catalog import Gate, Model
from turnout.errors import ArtifactInvalid, DataError

StepCallback: TypeAlias = Callable[[int, int], None]
_MAX_JUDGED = 20_000


@dataclass(frozen=True, slots=True)
class Study:
    """The outcome of a study: all candidates and the inputs they were judged on.

    Attributes:
        model: name in the catalog.
        entry: the catalog entry.
        gate: the tolerance.
        calibrated_on, judged_on: the inputs' origin in words, and their number.
        candidates: in the order of the chains.
    """

    model: str
    entry: Model
    gate: Gate
    calibrated_on: Mapping[str, Any]
    judged_on: Mapping[str, Any]
    candidates: Sequence[Candidate]

    @property
    def best(self) -> Candidate | None:
        """Return the fastest candidate that may serve; None when none may."""
        passing = [candidate for candidate in self.candidates if not candidate.why_not]
        return max(passing, key=lambda candidate: candidate.speedup, default=None)


def study(
    name: str,
    entry: Model,
    folder: Path,
    chains: Sequence[Chain],
    parts: tuple[Inputs, Inputs],
    gate: Gate,
    report: Report,
    on_step: StepCallback = lambda done, total: None,
) -> Study:
    """Build and judge every candidate of a model.

    Args:
        name: the model's name in the catalog.
        entry: its entry.
        folder: its artefact, as built.
        chains: passes of each candidate.
        parts: inputs to calibrate on and inputs to judge on, nothing in both.
        gate: the tolerance.
        report: called with one line of progress at a time.
        on_step: called with the number of finished steps and of all steps.

    Raises:
        ArtifactInvalid: the reference cannot run on the inputs, or the only chain fails.
    """
    to_calibrate, to_judge = parts
    source = folder / FILE
    if not source.is_file():
        raise ArtifactInvalid(f"{folder} has no {FILE}; only ONNX models can be optimised")
    task = load_task(entry.task, folder)
    samples = (
        [task.prepare(row) for row in one_by_one(to_calibrate.tensors)]
        if _needs_calibration(chains)
        else []
    )
    calibrating = CalibrationSet(samples, to_calibrate.digest())
    runner = entry.runner.model_dump(mode="json")
    report(f"reference on {len(to_judge)} inputs")
    steps = _StepCounter(2 + sum(len(chain) + 1 for chain in chains), on_step)
    evaluator = CandidateEvaluator(name, entry, folder, task, to_judge, gate)
    steps.take(1)
    with tempfile.TemporaryDirectory() as scratch:
        results: dict[str, ChainResult] = {}
        for chain in chains:
            label = " + ".join(_step_label(step, options) for step, options in chain)
            try:
                stages = run_chain(
                    source, chain, calibrating, runner, lambda line, s=label: report(f"{s}: {line}")
                )
            except ArtifactInvalid as error:
                if len(chains) == 1:
                    raise
                report(f"{label}: {error}")
                results[label] = ChainResult((), None, None, str(error))
                steps.take(len(chain) + 1)
                continue
            steps.take(len(chain))
            report(f"{label}: judging")
            results[label] = evaluator.evaluate(stages, Path(scratch) / str(len(results)))
            steps.take(1)
        report("timing all of them in turn")
        candidates = evaluator.measure(results)
        steps.take(1)
    return Study(
        name,
        entry,
        gate,
        {"inputs": len(to_calibrate), "from": to_calibrate.origin},
        {
            "inputs": len(to_judge),
            "independent": to_judge.independent,
            "labelled": to_judge.labels is not None,
            "from": to_judge.origin,
        },
        candidates,
    )


class _StepCounter:
    """Counts the finished steps and reports them."""

    def __init__(self, total: int, on_step: StepCallback) -> None:
        self._done = 0
        self._total = total
        self._on_step = on_step
        on_step(0, total)

    def take(self, count: int) -> None:
        self._done += count
        self._on_step(self._done, self._total)


def split_inputs(inputs: Inputs, rows: int) -> tuple[Inputs, Inputs]:
    """Split inputs into those to calibrate on, at most ``rows``, and those to judge on.

    Raises:
        DataError: there are fewer than two independent inputs.
    """
    if inputs.independent < 2:
        raise DataError(
            f"{inputs.origin}: too few inputs; calibrating and judging need at least one each"
        )
    return split_in_halves(inputs, rows, _MAX_JUDGED)


def _needs_calibration(chains: Sequence[Chain]) -> bool:
    return any(load_pass(step).calibrated for chain in chains for step, _ in chain)


def _step_label(step: str, options: Mapping[str, Any]) -> str:
    """Return a pass's name with the options that are set for it."""
    listed = ", ".join(
        f"{key} {'+'.join(value) if isinstance(value, tuple) else value}"
        for key, value in options.items()
    )
    return f"{step} ({listed})" if listed else step
