"""Labelled transactions for training, simulated or read from a parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runners.recipes.fraud.features import DELAY_DAYS, WARM_UP_DAYS, features
from runners.recipes.fraud.simulator import DAY_S, World, simulate
from runners.tasks.tabular import FEATURES
from turnout.errors import DataError

_TEST_SHARE = 0.3
_TIME, _CUSTOMER, _LABEL = "TX_DATETIME", "CUSTOMER_ID", "TX_FRAUD"


@dataclass(frozen=True, slots=True)
class Table:
    """Transactions in time order, one per row.

    Attributes:
        features: float32 [n, 15].
        fraud: bool [n].
        day: int64 [n], days since the first.
        customer: int [n].
    """

    features: np.ndarray
    fraud: np.ndarray
    day: np.ndarray
    customer: np.ndarray

    def rows(self, mask: np.ndarray) -> Table:
        """Return the rows where ``mask`` is true."""
        return Table(self.features[mask], self.fraud[mask], self.day[mask], self.customer[mask])

    def split(self) -> tuple[Table, Table]:
        """Split into earlier days for training and later days for evaluation.

        The days between are left out: their frauds are not yet reported at the time of training.
        """
        days = int(self.day.max()) + 1
        first = int(days * (1 - _TEST_SHARE))
        return self.rows(self.day < first - DELAY_DAYS), self.rows(self.day >= first)


def simulated(world: World) -> Table:
    """Return a simulated world's transactions, without the days whose windows are not yet full."""
    transactions = simulate(world)
    day = transactions.time_s // DAY_S
    table = Table(features(transactions), transactions.fraud, day, transactions.customer)
    warm = table.rows(day >= WARM_UP_DAYS)
    return Table(warm.features, warm.fraud, warm.day - WARM_UP_DAYS, warm.customer)


def read(path: Path) -> Table:
    """Read a parquet with the 15 features, TX_DATETIME, CUSTOMER_ID and TX_FRAUD.

    Raises:
        DataError: the file is unreadable, or lacks a column, or a feature is not finite.
    """
    try:
        columns = pq.read_table(path).sort_by(_TIME)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a parquet with {_TIME}: {error}") from error
    missing = [name for name in (*FEATURES, _CUSTOMER, _LABEL) if name not in columns.column_names]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}")
    table = np.stack(
        [columns.column(name).to_numpy().astype(np.float32) for name in FEATURES], axis=1
    )
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(f"{path}: {FEATURES[column]} is not a finite number in row {row}")
    stamps = columns.column(_TIME).to_numpy().astype("datetime64[D]").astype(np.int64)
    return Table(
        table,
        columns.column(_LABEL).to_numpy() == 1,
        stamps - stamps.min(),
        columns.column(_CUSTOMER).to_numpy(),
    )


def write(world: World, path: Path) -> int:
    """Write a simulated world in the layout ``read`` takes, and return its number of rows."""
    transactions = simulate(world)
    start = np.datetime64("2018-04-01", "s")
    table: dict[str, pa.Array] = {
        _TIME: pa.array((start + transactions.time_s).astype("datetime64[ms]")),
        _CUSTOMER: pa.array(transactions.customer),
        "TERMINAL_ID": pa.array(transactions.terminal),
    }
    values = features(transactions)
    table |= {name: pa.array(values[:, i]) for i, name in enumerate(FEATURES)}
    table[_LABEL] = pa.array(transactions.fraud.astype(np.int8))
    pq.write_table(pa.table(table), path)
    return len(transactions)
