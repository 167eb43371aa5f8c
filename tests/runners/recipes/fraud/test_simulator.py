import numpy as np

from runners.recipes.fraud.simulator import DAY_S, World, simulate

_WORLD = World(customers=400, terminals=800, days=60, seed=7)


def test_the_same_seed_gives_the_same_world() -> None:
    first, again = simulate(_WORLD), simulate(_WORLD)
    other = simulate(World(customers=400, terminals=800, days=60, seed=8))
    assert np.array_equal(first.amount, again.amount)
    assert np.array_equal(first.fraud, again.fraud)
    assert len(other) != len(first) or not np.array_equal(other.amount, first.amount)


def test_transactions_are_in_time_order_and_within_the_days() -> None:
    time_s = simulate(_WORLD).time_s
    assert (np.diff(time_s) >= 0).all()
    assert time_s.min() > 0
    assert time_s.max() < _WORLD.days * DAY_S


def test_customers_pay_near_home_only() -> None:
    transactions = simulate(_WORLD)
    # 100 x 100 map, radius 5: a terminal is near a customer with chance 0.0079
    pairs = np.unique(np.stack([transactions.customer, transactions.terminal]), axis=1)
    assert pairs.shape[1] < 0.012 * _WORLD.customers * _WORLD.terminals


def test_every_large_honest_amount_is_a_fraud() -> None:
    transactions = simulate(_WORLD)
    assert transactions.fraud[transactions.amount > 220].all()
    assert (transactions.amount >= 0).all()


def test_a_fallen_terminal_makes_every_payment_there_a_fraud_for_four_weeks() -> None:
    transactions = simulate(_WORLD)
    small = transactions.fraud & (transactions.amount < 5)
    terminal = int(np.bincount(transactions.terminal[small]).argmax())
    there = transactions.terminal == terminal
    days = transactions.time_s[there & transactions.fraud] // DAY_S
    inside = (transactions.time_s // DAY_S >= days.min()) & (
        transactions.time_s // DAY_S <= min(days.max(), days.min() + 27)
    )
    assert transactions.fraud[there & inside].mean() > 0.9
    assert days.max() - days.min() < 60


def test_the_share_of_frauds_is_small() -> None:
    assert 0.01 < simulate(_WORLD).fraud.mean() < 0.25
