"""The 15 features of a transaction: its time, the customer's habits, the terminal's record."""

from __future__ import annotations

import numpy as np

from runners.recipes.fraud.simulator import DAY_S, Transactions
from runners.tasks.tabular import FEATURES

WINDOWS_DAYS = (1, 7, 30)
DELAY_DAYS = 7
"""The delay after which a fraud is reported."""

WARM_UP_DAYS = max(WINDOWS_DAYS) + DELAY_DAYS
"""The number of days until every window is full."""

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

    customers = _WindowSums(transactions.customer, time_s)
    for days in WINDOWS_DAYS:
        count = customers.total(np.ones(len(time_s)), days)
        columns += [count, customers.total(amount, days) / count]

    terminals = _WindowSums(transactions.terminal, time_s)
    ones, fraud = np.ones(len(time_s)), transactions.fraud.astype(np.float64)
    recent = (terminals.total(ones, DELAY_DAYS), terminals.total(fraud, DELAY_DAYS))
    for days in WINDOWS_DAYS:
        count = terminals.total(ones, DELAY_DAYS + days) - recent[0]
        frauds = terminals.total(fraud, DELAY_DAYS + days) - recent[1]
        columns += [count, np.divide(frauds, count, out=np.zeros(len(count)), where=count > 0)]
    table = np.stack(columns, axis=1).astype(np.float32)
    if table.shape[1] != len(FEATURES):
        raise ValueError(f"{table.shape[1]} columns computed, {len(FEATURES)} named")
    return table


class _WindowSums:
    """Sums over the preceding days of one customer or terminal, the row itself included.

    Rows are placed on one time axis, group after group, so far apart that no window reaches into
    another group; a window's sum is then the difference of two places of a running sum.
    """

    def __init__(self, group: np.ndarray, time_s: np.ndarray) -> None:
        self._order = np.lexsort((np.arange(len(group)), time_s, group))
        apart_s = int(time_s.max()) + (WARM_UP_DAYS + 1) * DAY_S
        self._axis = group[self._order].astype(np.int64) * apart_s + time_s[self._order]

    def total(self, values: np.ndarray, days: int) -> np.ndarray:
        """Return the sum of ``values`` over (t - days, t] for every row, in row order."""
        sums = np.concatenate([[0.0], np.cumsum(values[self._order])])
        since = np.searchsorted(self._axis, self._axis - days * DAY_S, side="right")
        totals = np.empty(len(values))
        totals[self._order] = sums[1:] - sums[since]
        return totals
