"""Read or simulate the card transactions that tabular models are judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runners.optimize.input_types import Inputs
from runners.optimize.optimization import Report
from runners.recipes.fraud.simulator import World
from runners.recipes.fraud.table import Table, simulated
from runners.recipes.fraud.table import read as read_parquet
from turnout.errors import DataError

_WORLD = World(customers=1_500, terminals=3_000, days=80, seed=1)
_MAX_ROWS = 60_000


def read(place: Path) -> Inputs:
    """Read a parquet file with the 15 features and TX_FRAUD; the last rows of a large one."""
    if place.is_dir():
        raise DataError(f"{place} is a folder; name a parquet file with the features and TX_FRAUD")
    return _inputs(read_parquet(place), "transactions given by the user")


def default(report: Report) -> Inputs:
    """Return payments of a simulated world that no default model was trained on (another seed)."""
    report("simulating card payments to judge on")
    return _inputs(simulated(_WORLD), "simulated transactions, another world than the training's")


def _inputs(table: Table, origin: str) -> Inputs:
    rows = slice(max(len(table.fraud) - _MAX_ROWS, 0), None)
    labels = table.fraud[rows]
    return Inputs(
        {"features": table.features[rows]}, labels, np.arange(len(labels)),
        f"{len(labels)} {origin}",
    )  # fmt: skip
