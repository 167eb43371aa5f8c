"""The vectorised features against the definition, computed row by row."""

import numpy as np

from runners.recipes.fraud.features import DELAY_DAYS, WINDOWS_DAYS, features
from runners.recipes.fraud.simulator import DAY_S, Transactions, World, simulate
from runners.tasks.tabular import FEATURES


def _by_definition(transactions: Transactions, row: int) -> list[float]:
    time_s, now = transactions.time_s, transactions.time_s[row]
    weekday = (now // DAY_S - 1) % 7  # day 0 is a Sunday; Monday is 0
    values = [
        transactions.amount[row],
        float(weekday in (5, 6)),
        float(now % DAY_S // 3600 <= 6),
    ]
    before = np.arange(len(time_s)) <= row
    mine = before & (transactions.customer == transactions.customer[row])
    for days in WINDOWS_DAYS:
        recent = mine & (time_s > now - days * DAY_S)
        values += [recent.sum(), transactions.amount[recent].mean()]
    there = before & (transactions.terminal == transactions.terminal[row])
    for days in WINDOWS_DAYS:
        oldest, newest = now - (DELAY_DAYS + days) * DAY_S, now - DELAY_DAYS * DAY_S
        known = there & (time_s > oldest) & (time_s <= newest)
        values += [known.sum(), transactions.fraud[known].mean() if known.any() else 0.0]
    return values


def test_features_are_what_their_names_say() -> None:
    transactions = simulate(World(customers=60, terminals=300, radius=12, days=60, seed=3))
    table = features(transactions)
    assert table.shape == (len(transactions), len(FEATURES))
    assert table.dtype == np.float32
    rows = np.random.default_rng(0).choice(len(transactions), 150, replace=False)
    expected = np.array([_by_definition(transactions, row) for row in rows], np.float32)
    np.testing.assert_allclose(table[rows], expected, rtol=1e-4, atol=1e-4)
    assert expected[:, FEATURES.index("TERMINAL_ID_RISK_30DAY_WINDOW")].any()


def test_a_later_fraud_changes_no_earlier_feature() -> None:
    honest = simulate(World(customers=60, terminals=300, radius=12, days=40, seed=3))
    half = len(honest) // 2
    fraud = honest.fraud.copy()
    fraud[half:] = True
    changed = Transactions(honest.time_s, honest.customer, honest.terminal, honest.amount, fraud)
    assert np.array_equal(features(honest)[:half], features(changed)[:half])
