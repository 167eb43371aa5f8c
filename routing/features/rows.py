"""Requests as rows of numbers: a table's own columns, a picture's header."""

from __future__ import annotations

from typing import Any

import numpy as np

from routing.features.picture import picture_features
from turnout.types import Task, Tensors

TABLES = frozenset({Task.TABULAR, Task.RANK})


def has_features(task: Task) -> bool:
    """Return whether the requests of a task can be read as rows of numbers."""
    return task is Task.IMAGE or task in TABLES


def rows_of(task: Task, tensors: Tensors, most_pictures: int) -> np.ndarray[Any, Any]:
    """Return a request as rows of numbers, shape (n, d), float32; d is 0 where the task has none.

    Args:
        task: the request's.
        tensors: its public inputs.
        most_pictures: the number of pictures read at most.
    """
    if task is Task.IMAGE:
        return np.stack([picture_features(file) for file in tensors["image"][:most_pictures]])
    if task in TABLES:
        return tensors["features"]
    return np.zeros((0, 0), np.float32)
