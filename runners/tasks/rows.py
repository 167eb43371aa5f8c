"""Checks that every task makes on what a request carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from turnout.types import Tensors


def single(tensors: Tensors, name: str) -> np.ndarray[Any, Any]:
    """The one tensor this task takes.

    Raises:
        InvalidRequest: it is missing, or there are others.
    """
    if set(tensors) != {name}:
        given = ", ".join(sorted(tensors)) or "none"
        raise InvalidRequest(f"this model takes one input named {name!r}, got: {given}", param=name)
    return tensors[name]


def byte_rows(tensors: Tensors, name: str, max_rows: int) -> list[bytes]:
    """The rows of a BYTES tensor of shape [n].

    Raises:
        InvalidRequest: another dtype or shape, no rows, too many, or an empty one.
    """
    rows = single(tensors, name)
    if rows.dtype != np.object_ or rows.ndim != 1:
        raise InvalidRequest(
            f"{name} must be BYTES of shape [n], not {rows.dtype} of shape {list(rows.shape)}",
            param=name,
        )
    if not 1 <= len(rows) <= max_rows:
        raise InvalidRequest(
            f"{name} has {len(rows)} rows; send 1 to {max_rows} in one request", param=name
        )
    for index, row in enumerate(rows):
        if not isinstance(row, bytes):
            raise InvalidRequest(f"{name} row {index} is not bytes", param=name)
        if not row:
            raise InvalidRequest(f"{name} row {index} is empty", param=name)
    return list(rows)
