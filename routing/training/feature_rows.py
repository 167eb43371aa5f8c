"""The ``features`` column of an outcome table: a list of numbers, or numbers by name.

In parquet a list or a struct; in JSONL an array or an object; in either also such JSON as text.
"""

# pyright: basic

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from turnout.errors import DataError

Floats = NDArray[np.float64]


def feature_rows(
    frame: pd.DataFrame, where: str, names: Sequence[str] = ()
) -> tuple[Floats, tuple[str, ...]]:
    """Read the features of every row.

    Args:
        frame: a table; several tables in one.
        where: its files, for messages.
        names: names for unnamed columns.

    Returns:
        shape (rows, d), and d names: those of the first row, else ``f0, f1, ...``. Nothing where
        the table has no features.

    Raises:
        DataError: a row is empty, is not like the first, or holds a value that is no finite
            number; the message names it.
    """
    if "features" not in frame:
        return np.zeros((0, 0)), ()
    if "prompt" in frame:
        raise DataError(f"{where}: some tables have prompts, others features; give one kind")
    values = [_read(row_value) for row_value in frame["features"]]
    first = values[0] if values else []
    order = tuple(first) if isinstance(first, Mapping) else None
    rows: list[list[Any]] = []
    for number, row_value in enumerate(values, start=1):
        row = _in_order(row_value, order)
        if row is None or len(row) != len(first) or not row:
            form = f"named {', '.join(order)}" if order else f"a list of {len(first)} numbers"
            raise DataError(f"{where}: row {number}: features must be {form}, like the first row")
        rows.append(row)
    matrix = _numbers(rows, len(first))
    columns = order or _names(names, len(first))
    if len(not_finite := np.argwhere(~np.isfinite(matrix))):
        row, column = not_finite[0]
        raise DataError(
            f"{where}: row {row + 1}: feature {columns[column]!r} is {rows[row][column]!r}; "
            "every feature is a finite number"
        )
    return matrix, columns


def _numbers(rows: list[list[Any]], width: int) -> Floats:
    """Return the rows as a matrix; NaN where there is no number."""
    try:
        return np.array(rows, np.float64).reshape(len(rows), width)
    except (TypeError, ValueError):
        flat = pd.to_numeric(pd.Series(list(chain.from_iterable(rows))), errors="coerce")
        return np.asarray(flat, np.float64).reshape(len(rows), width)


def _read(value: object) -> Sequence[Any] | Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    if isinstance(value, Mapping):
        return value
    return list(value) if isinstance(value, list | tuple | np.ndarray) else []


def _in_order(
    value: Sequence[Any] | Mapping[str, Any], order: tuple[str, ...] | None
) -> list[Any] | None:
    if order is None:
        return None if isinstance(value, Mapping) else list(value)
    if not isinstance(value, Mapping) or set(value) != set(order):
        return None
    return [value[name] for name in order]


def _names(names: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(names) if len(names) == count else tuple(f"f{i}" for i in range(count))
