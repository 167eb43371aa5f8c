"""The 15 features of a transaction: its time, its customer's habits, its terminal's record."""

from __future__ import annotations

import numpy as np

from runners.recipes.fraud.simulator import DAY_S, Transactions
from runners.tasks.tabular import FEATURES

WINDOWS_DAYS = (1, 7, 30)
DELAY_DAYS = 7
"""A fraud is known this long after it happened."""

WARM_UP_DAYS = max(WINDOWS_DAYS) + DELAY_DAYS
"""Days before every window is full."""

_NIGHT_ENDS_HOUR = 6
_FIRST_WEEKDAY = 6


def features(transactions: Transactions) -> np.ndarray:
    """Compute the features of every transaction from those before it.

    Returns:
        Shape (n, 15), float32, columns as in ``runners.tasks.tabular.FEATURES``.
    """
    time_s, amount = transactions.time_s, transactions.amount
    weekday = (time_s // DAY_S + _FIRST_WEEKDAY) % 7
    hour = time_s % DAY_S // 3600
    columns = [amount, weekday >= 5, hour <= _NIGHT_ENDS_HOUR]

    customers = _Past(transactions.customer, time_s)
    for days in WINDOWS_DAYS:
        count = customers.total(np.ones(len(time_s)), days)
        columns += [count, customers.total(amount, days) / count]

    terminals = _Past(transactions.terminal, time_s)
    ones, fraud = np.ones(len(time_s)), transactions.fraud.astype(np.float64)
    known = (terminals.total(ones, DELAY_DAYS), terminals.total(fraud, DELAY_DAYS))
    for days in WINDOWS_DAYS:
        count = terminals.total(ones, DELAY_DAYS + days) - known[0]
        frauds = terminals.total(fraud, DELAY_DAYS + days) - known[1]
        columns += [count, np.divide(frauds, count, out=np.zeros(len(count)), where=count > 0)]
    table = np.stack(columns, axis=1).astype(np.float32)
    if table.shape[1] != len(FEATURES):
        raise ValueError(f"{table.shape[1]} columns computed, {len(FEATURES)} named")
    return table


class _Past:
    """Sums over what one customer or terminal did in the days before, the row itself included.

    Rows are put in one line, group after group, so far apart that no window reaches into
    another group; a window is then two places in a running sum.
    """

    def __init__(self, group: np.ndarray, time_s: np.ndarray) -> None:
        self._order = np.lexsort((np.arange(len(group)), time_s, group))
        apart_s = int(time_s.max()) + (WARM_UP_DAYS + 1) * DAY_S
        self._line = group[self._order].astype(np.int64) * apart_s + time_s[self._order]

    def total(self, values: np.ndarray, days: int) -> np.ndarray:
        """Sum of ``values`` over (t - days, t], for every row in its own place."""
        sums = np.concatenate([[0.0], np.cumsum(values[self._order])])
        since = np.searchsorted(self._line, self._line - days * DAY_S, side="right")
        totals = np.empty(len(values))
        totals[self._order] = sums[1:] - sums[since]
        return totals
