"""Inputs of a task with their labels and groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.types import Tensors


@dataclass(frozen=True, slots=True)
class Inputs:
    """Public inputs of a task; the first axis of every tensor is rows.

    Attributes:
        tensors: see ``turnout.types.SIGNATURES``.
        labels: the right answer of each row; None when unknown.
        groups: int64 [n]; rows of one group are not independent (views of one picture).
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
        """Return the number of groups."""
        return len(np.unique(self.groups))

    def take(self, rows: np.ndarray[Any, Any]) -> Inputs:
        """Return these rows."""
        return Inputs(
            {name: tensor[rows] for name, tensor in self.tensors.items()},
            None if self.labels is None else self.labels[rows],
            self.groups[rows],
            self.origin,
        )

    def digest(self) -> str:
        """Return the SHA-256 over every row, in hexadecimal."""
        total = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            if tensor.dtype == object:
                for row in tensor:
                    total.update(hashlib.sha256(row).digest())
            else:
                total.update(np.ascontiguousarray(tensor).tobytes())
        return total.hexdigest()


def bytes_column(rows: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """Return bytes as an object array of shape [n]."""
    column = np.empty(len(rows), object)
    column[:] = rows
    return column
