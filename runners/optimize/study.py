"""One model's study: run every chain of passes, judge each result, write the report.

The reference is the artefact as its recipe (or its address) gave it, under the same engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from runners.optimize.candidate import Candidate, Made, Trial
from runners.optimize.chain import FILE, Calibrating, Chain, run_chain
from runners.optimize.input_types import Inputs
from runners.optimize.inputs import halves, one_by_one
from runners.optimize.optimization import Report
from runners.optimize.registry import load_pass
from runners.tasks import load_task
from turnout.catalog import Gate, Model
from turnout.errors import ArtifactInvalid, DataError

Stepped: TypeAlias = Callable[[int, int], None]
_MAX_JUDGED = 20_000


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that was found.

    Attributes:
        model: name in the catalog.
        entry: the catalog entry.
        gate: the tolerance.
        calibrated_on, judged_on: which inputs, in words, with their number.
        candidates: in the order of the chains.
        reference: outputs' own metric, latency and size.
    """

    model: str
    entry: Model
    gate: Gate
    calibrated_on: Mapping[str, Any]
    judged_on: Mapping[str, Any]
    candidates: Sequence[Candidate]

    @property
    def best(self) -> Candidate | None:
        """The fastest that may serve."""
        able = [one for one in self.candidates if not one.why_not]
        return max(able, key=lambda one: one.speedup, default=None)


def study(
    name: str,
    entry: Model,
    folder: Path,
    chains: Sequence[Chain],
    parts: tuple[Inputs, Inputs],
    gate: Gate,
    report: Report,
    stepped: Stepped = lambda done, total: None,
) -> Study:
    """Make and judge every candidate.

    Args:
        name: the model's name in the catalog.
        entry: its entry.
        folder: its artefact, as built.
        chains: passes of each candidate.
        parts: inputs to calibrate on and inputs to judge on, nothing in both.
        gate: the tolerance.
        report: told what happens, one line each.
        stepped: told how many steps are done, of how many.

    Raises:
        ArtifactInvalid: the reference cannot run on the inputs, or a named pass can't do it.
    """
    to_calibrate, to_judge = parts
    source = folder / FILE
    if not source.is_file():
        raise ArtifactInvalid(f"{folder} has no {FILE}; only ONNX models can be optimised")
    task = load_task(entry.task, folder)
    samples = (
        [task.prepare(one) for one in one_by_one(to_calibrate.tensors)]
        if _calibrated(chains)
        else []
    )
    calibrating = Calibrating(samples, to_calibrate.digest())
    runner = entry.runner.model_dump(mode="json")
    report(f"reference on {len(to_judge)} inputs")
    steps = _Steps(2 + sum(len(chain) + 1 for chain in chains), stepped)
    trial = Trial(name, entry, folder, task, to_judge, gate)
    steps.take(1)
    with tempfile.TemporaryDirectory() as scratch:
        made: dict[str, Made] = {}
        for chain in chains:
            shown = " + ".join(_shown(step, options) for step, options in chain)
            try:
                stages = run_chain(
                    source, chain, calibrating, runner, lambda line, s=shown: report(f"{s}: {line}")
                )
            except ArtifactInvalid as error:
                if len(chains) == 1:
                    raise
                report(f"{shown}: {error}")
                made[shown] = Made((), None, None, str(error))
                steps.take(len(chain) + 1)
                continue
            steps.take(len(chain))
            report(f"{shown}: judging")
            made[shown] = trial.judged(stages, Path(scratch) / str(len(made)))
            steps.take(1)
        report("timing all of them in turn")
        candidates = trial.measured(made)
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


class _Steps:
    """Counts what is done."""

    def __init__(self, total: int, stepped: Stepped) -> None:
        self._done = 0
        self._total = total
        self._stepped = stepped
        stepped(0, total)

    def take(self, count: int) -> None:
        self._done += count
        self._stepped(self._done, self._total)


def part(inputs: Inputs, rows: int) -> tuple[Inputs, Inputs]:
    """Inputs to calibrate on, at most ``rows``, and inputs to judge on.

    Raises:
        DataError: there are too few to part.
    """
    if inputs.independent < 2:
        raise DataError(
            f"{inputs.origin}: two inputs are the least, one to calibrate on and one to judge on"
        )
    return halves(inputs, rows, _MAX_JUDGED)


def _calibrated(chains: Sequence[Chain]) -> bool:
    return any(load_pass(step).calibrated for chain in chains for step, _ in chain)


def _shown(step: str, options: Mapping[str, Any]) -> str:
    """A pass with the options given for it."""
    given = ", ".join(
        f"{key} {'+'.join(value) if isinstance(value, tuple) else value}"
        for key, value in options.items()
    )
    return f"{step} ({given})" if given else step
