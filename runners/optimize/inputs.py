"""Real inputs of a task: what candidates are calibrated on and what they are judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from turnout.errors import ConfigError, DataError
from turnout.types import Task, Tensors


@dataclass(frozen=True, slots=True)
class Inputs:
    """Public inputs of a task, rows in the first axis of every tensor.

    Attributes:
        tensors: see ``turnout.types.SIGNATURES``.
        labels: what the right answer is, a row each; None when nobody knows.
        groups: int64 [n]; rows of one group are no independent witnesses (views of one picture).
        origin: where they come from, for the report.
    """

    tensors: Tensors
    labels: np.ndarray[Any, Any] | None
    groups: np.ndarray[Any, Any]
    origin: str

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def independent(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.groups))

    def take(self, rows: np.ndarray[Any, Any]) -> Inputs:
        """These rows."""
        return Inputs(
            {name: tensor[rows] for name, tensor in self.tensors.items()},
            None if self.labels is None else self.labels[rows],
            self.groups[rows],
            self.origin,
        )

    def digest(self) -> str:
        """SHA-256 over every row."""
        total = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            if tensor.dtype == object:
                for row in tensor:
                    total.update(hashlib.sha256(row).digest())
            else:
                total.update(np.ascontiguousarray(tensor).tobytes())
        return total.hexdigest()


def halves(inputs: Inputs, rows: int, judged: int) -> tuple[Inputs, Inputs]:
    """Part inputs into those to calibrate on and those to judge on; no group is in both.

    Groups are shuffled with a fixed seed, so that the same inputs part the same way.

    Args:
        inputs: all of them.
        rows: the most to calibrate on.
        judged: the most to judge on.
    """
    names = np.unique(inputs.groups)
    np.random.default_rng(0).shuffle(names)
    first = np.isin(inputs.groups, names[: len(names) // 2])
    return (
        inputs.take(np.flatnonzero(first)[:rows]),
        inputs.take(np.flatnonzero(~first)[:judged]),
    )


def one_by_one(tensors: Tensors) -> list[Tensors]:
    """Each row as a batch of its own."""
    count = len(next(iter(tensors.values())))
    return [
        {name: tensor[row : row + 1] for name, tensor in tensors.items()} for row in range(count)
    ]


class Reader(Protocol):
    """Inputs of one task."""

    def read(self, place: Path) -> Inputs:
        """Read a folder or a file of the user's.

        Raises:
            DataError: names the file and what is wrong with it.
        """
        ...

    def default(self, report: Any) -> Inputs:
        """What comes without asking for it."""
        ...


def read_inputs(task: Task, place: Path | None, report: Any) -> Inputs:
    """The inputs of a task, from a place or the task's own.

    Raises:
        DataError: the place is missing or holds none.
        ConfigError: the task has no tensors.
    """
    reader = _reader(task)
    if place is None:
        return reader.default(report)
    if not place.exists():
        raise DataError(f"{place} does not exist; name a folder or file of inputs with --inputs")
    return reader.read(place)


def _reader(task: Task) -> Reader:
    from runners.optimize import pictures, sentences, transactions

    readers: dict[Task, Any] = {
        Task.IMAGE: pictures,
        Task.EMBED: sentences,
        Task.TABULAR: transactions,
    }
    if task not in readers:
        raise ConfigError(
            f"models of task {task.value!r} cannot be optimised here; their precision is chosen "
            "when they are built (docs/engines.md)"
        )
    return readers[task]


def bytes_column(rows: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """Bytes as an object array of shape [n]."""
    column = np.empty(len(rows), object)
    column[:] = rows
    return column
