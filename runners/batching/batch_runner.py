"""One run of several requests: collated, run, checked, and split again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from runners.protocol import TensorRunner
from runners.tasks import TensorTask
from runners.tasks.outputs import OutputMismatch, check_rows
from turnout.errors import RunFailed, TurnoutError
from turnout.types import Tensors

Result: TypeAlias = "Tensors | TurnoutError"


class BatchRunner:
    """Runs requests of one loaded model together.

    Args:
        name: the model's name, for errors.
        runner: loaded.
        task: collates requests.
        finite: whether an answer that is not a number is an error.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        runner: TensorRunner,
        task: TensorTask,
        *,
        finite: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._runner = runner
        self._task = task
        self._finite = finite
        self._clock = clock

    def run(self, requests: Sequence[Tensors], rows: Sequence[int]) -> tuple[list[Result], float]:
        """Run requests of so many rows each; never raises, so that no future is left behind.

        A batch that fails runs again one request at a time, so that one bad request does not
        take its neighbours with it.

        Returns:
            an answer or an error for each, and the seconds they took together.
        """
        start_s = self._clock()
        try:
            results: list[Result] = self._run_together(requests, rows)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            results = (
                [self._failure(error)]
                if len(requests) == 1
                else [
                    self.run_alone(request, count)
                    for request, count in zip(requests, rows, strict=True)
                ]
            )
        return results, self._clock() - start_s

    def run_alone(self, request: Tensors, rows: int) -> Result:
        """Run one request of so many rows; never raises."""
        try:
            return self._checked(self._task.finish(self._runner.run(request)), rows)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            return self._failure(error)

    def _run_together(self, requests: Sequence[Tensors], rows: Sequence[int]) -> list[Result]:
        task, runner = self._task, self._runner
        if len(requests) == 1:
            return [self._checked(task.finish(runner.run(requests[0])), rows[0])]
        outputs = self._checked(task.finish(runner.run(task.collate(requests))), sum(rows))
        parts: list[Result] = []
        at = 0
        for count in rows:
            parts.append({name: tensor[at : at + count] for name, tensor in outputs.items()})
            at += count
        return parts

    def _checked(self, outputs: Tensors, rows: int) -> Tensors:
        """Return the outputs once checked: finite, and a row for each input row."""
        check_rows(outputs, rows)
        if self._finite:
            for name, tensor in outputs.items():
                # A sum of squares is finite only if every value is, and is the cheaper check.
                if tensor.dtype.kind != "f" or math.isfinite(np.vdot(tensor, tensor)):
                    continue
                if not np.isfinite(tensor).all():
                    row = int(np.argwhere(~np.isfinite(tensor))[0][0])
                    problem = f"output {name!r} is not a finite number in row {row}"
                    raise RunFailed(self._name, problem)
        return outputs

    def _failure(self, error: Exception) -> TurnoutError:
        if isinstance(error, TurnoutError):
            return error
        if isinstance(error, OutputMismatch):
            return RunFailed(self._name, str(error))
        return RunFailed(self._name, f"{type(error).__name__}: {error}")
