"""Read the inputs that candidates are calibrated and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from runners.optimize import pictures, sentences, transactions
from runners.optimize.input_types import Inputs
from runners.optimize.optimization import Report
from turnout.errors import ConfigError, DataError
from turnout.types import Task, Tensors


class _Reader(Protocol):
    """The interface of a module that reads the inputs of one task."""

    def read(self, place: Path) -> Inputs:
        """Read a folder or a file of the user's.

        Raises:
            DataError: names the file and what is wrong with it.
        """
        ...

    def default(self, report: Report) -> Inputs:
        """Return the inputs that come with the project."""
        ...


_READERS = cast(
    "Mapping[Task, _Reader]",
    {Task.IMAGE: pictures, Task.EMBED: sentences, Task.TABULAR: transactions},
)


def read_inputs(task: Task, place: Path | None, report: Report) -> Inputs:
    """Read the inputs of a task from a place, or the task's own.

    Raises:
        DataError: the place is missing or holds no inputs.
        ConfigError: models of this task cannot be optimised.
    """
    reader = _READERS.get(task)
    if reader is None:
        raise ConfigError(
            f"models of task {task.value!r} cannot be optimised here; their precision is chosen "
            "when they are built (docs/engines.md)"
        )
    if place is None:
        return reader.default(report)
    if not place.exists():
        raise DataError(f"{place} does not exist; name a folder or file of inputs with --inputs")
    return reader.read(place)


def split_in_halves(inputs: Inputs, rows: int, judged: int) -> tuple[Inputs, Inputs]:
    """Split inputs into those to calibrate on and those to judge on; no group is in both.

    Groups are shuffled with a fixed seed, so that the same inputs split the same way.

    Args:
        inputs: all of them.
        rows: the most to calibrate on.
        judged: the most to judge on.
    """
    names = np.unique(inputs.groups)
    np.random.default_rng(0).shuffle(names)
    is_first = np.isin(inputs.groups, names[: len(names) // 2])
    return (
        inputs.take(np.flatnonzero(is_first)[:rows]),
        inputs.take(np.flatnonzero(~is_first)[:judged]),
    )


def one_by_one(tensors: Tensors) -> list[Tensors]:
    """Return each row as a batch of its own."""
    count = len(next(iter(tensors.values())))
    return [
        {name: tensor[row : row + 1] for name, tensor in tensors.items()} for row in range(count)
    ]
