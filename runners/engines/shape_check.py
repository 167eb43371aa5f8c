"""Compare tensors with the inputs a model declares, with messages for the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnout.types import Tensors


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """An input that a model declares; ``dtype`` is numpy's name, a size of None is any."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def misfits(declared: Sequence[DeclaredInput], tensors: Tensors) -> list[str]:
    """Return each difference of ``tensors`` to the declared inputs; empty if they fit."""
    by_name = {entry.name: entry for entry in declared}
    problems = [
        f"input {name!r} is missing (the model takes {_listed(declared)})"
        for name in by_name
        if name not in tensors
    ]
    rows: dict[str, int] = {}
    for name, array in tensors.items():
        entry = by_name.get(name)
        if entry is None:
            problems.append(f"there is no input {name!r} (the model takes {_listed(declared)})")
            continue
        if array.dtype.name != entry.dtype:
            problems.append(f"input {name!r} is {array.dtype.name}, the model takes {entry.dtype}")
        if len(array.shape) != len(entry.shape) or any(
            size is not None and size != actual
            for size, actual in zip(entry.shape, array.shape, strict=False)
        ):
            problems.append(
                f"input {name!r} has shape {list(array.shape)}, the model takes "
                f"[{', '.join('any' if size is None else str(size) for size in entry.shape)}]"
            )
        elif array.shape:
            rows[name] = array.shape[0]
    if len(set(rows.values())) > 1:
        problems.append(f"inputs differ in rows: {rows}")
    return problems


def _listed(declared: Sequence[DeclaredInput]) -> str:
    return ", ".join(f"{entry.name!r}" for entry in declared)
