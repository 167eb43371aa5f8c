"""Checks on a model's outputs, before the rows go to their callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"


class OutputMismatch(ValueError):
    """A model's output does not have the shape that its task promises."""


def check_rows(outputs: Mapping[str, Array], rows: int) -> None:
    """Require one row of each output for each row of the inputs.

    Rows are matched to callers by position, so with any other number a caller would get the rows
    of another.

    Args:
        outputs: by name, the first axis of each is rows.
        rows: of the inputs.

    Raises:
        OutputMismatch: with the output and both numbers.
    """
    for name, output in outputs.items():
        if output.shape[:1] != (rows,):
            raise OutputMismatch(
                f"output {name!r} has shape {list(output.shape)} for inputs of {rows} "
                f"{'row' if rows == 1 else 'rows'}; its first axis must be the rows of the inputs"
            )


def vector(outputs: Mapping[str, Array], name: str) -> Array:
    """Return an output of one value per row as shape [n], from [n] or [n, 1].

    Raises:
        KeyError: the model has no such output.
        OutputMismatch: it has more than one value a row.
    """
    output = outputs[name]
    if output.ndim == 1:
        return output
    if output.ndim == 2 and output.shape[1] == 1:
        return output[:, 0]
    raise OutputMismatch(
        f"output {name!r} has shape {list(output.shape)}; this task takes one value a row, "
        "[n] or [n, 1]"
    )


def table(outputs: Mapping[str, Array], name: str, columns: int | None = None) -> Array:
    """Return an output of shape [n, columns].

    Args:
        outputs: by name.
        name: of the output.
        columns: how many; None takes any number.

    Raises:
        KeyError: the model has no such output.
        OutputMismatch: it has another shape.
    """
    output = outputs[name]
    if output.ndim != 2 or columns not in (None, output.shape[1]):
        expected = "any number" if columns is None else columns
        raise OutputMismatch(
            f"output {name!r} has shape {list(output.shape)}; this task takes [n, {expected}]"
        )
    return output
