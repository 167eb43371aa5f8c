"""Checks on the inputs of a request that all tasks share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout.types import Tensors


def single(tensors: Tensors, name: str) -> np.ndarray[Any, Any]:
    """Return the only tensor of a request, which must have this name.

    Raises:
        InvalidRequest: it is missing, or there are others.
    """
    if set(tensors) != {name}:
        names = ", ".join(sorted(tensors)) or "none"
        raise InvalidRequest(f"this model takes one input named {name!r}, got: {names}", param=name)
    return tensors[name]


def byte_rows(tensors: Tensors, name: str, max_rows: int) -> list[bytes]:
    """Return the rows of a BYTES tensor of shape [n].

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


def whole_rows(rows: np.ndarray[Any, Any], name: str, max_rows: int) -> np.ndarray[Any, Any]:
    """Check an INT64 tensor of shape [n] and return it.

    Raises:
        InvalidRequest: another dtype or shape, no rows, or too many.
    """
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise InvalidRequest(
            f"{name} must be INT64 of shape [n], not {rows.dtype} of shape {list(rows.shape)}",
            param=name,
        )
    if not 1 <= len(rows) <= max_rows:
        raise InvalidRequest(
            f"{name} has {len(rows)} rows; send 1 to {max_rows} in one request", param=name
        )
    return rows


def finite_rows(
    rows: np.ndarray[Any, Any], name: str, columns: Sequence[str], hint: str = ""
) -> np.ndarray[Any, Any]:
    """Check an FP32 tensor of finite numbers, shape [n, columns], and return it.

    Raises:
        InvalidRequest: another dtype or shape, no rows, or a value that is not finite.
    """
    if rows.dtype != np.float32:
        raise InvalidRequest(
            f"{name} must be FP32, not {rows.dtype}: convert before sending", param=name
        )
    if rows.ndim != 2 or rows.shape[1] != len(columns) or not len(rows):
        raise InvalidRequest(
            f"{name} must have shape [n, {len(columns)}] with n at least 1, "
            f"not {list(rows.shape)}{hint}",
            param=name,
        )
    # The sum of squares is finite only if every value is: one pass settles almost all requests.
    if math.isfinite(np.vdot(rows, rows)):
        return rows
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(
            f"{name} row {row}: {columns[column]} is {rows[row, column]}; "
            "every value must be a finite number",
            param=name,
        )
    return rows
