"""Simulate card payments with three kinds of fraud.

Source: the description in "Reproducible Machine Learning for Credit Card Fraud Detection"
(Le Borgne, Siblini, Lebichot, Bontempi; chapter 3). The code is original, and vectorised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DAY_S = 86_400
_NOON_S, _SPREAD_S = DAY_S / 2, 20_000.0
_LARGE_AMOUNT = 220.0
_TERMINALS_A_DAY, _TERMINAL_DAYS = 2, 28
_CUSTOMERS_A_DAY, _CUSTOMER_DAYS, _AMOUNT_FACTOR = 3, 14, 5.0


@dataclass(frozen=True, slots=True)
class World:
    """The size and the seed of the simulated world.

    Attributes:
        customers: card holders, each with a home, habits and an average amount.
        terminals: shops, each at a place; the map is 100 x 100.
        radius: a customer pays at terminals this close to home.
        days: length; day 0 is a Sunday.
        seed: the same seed gives the same world.
    """

    customers: int = 5_000
    terminals: int = 10_000
    radius: float = 5.0
    days: int = 130
    seed: int = 20180401


@dataclass(frozen=True, slots=True)
class Transactions:
    """Payments in time order, one per row.

    Attributes:
        time_s: int64, seconds since the first Sunday's midnight.
        customer: int32.
        terminal: int32.
        amount: float64.
        fraud: bool.
    """

    time_s: np.ndarray
    customer: np.ndarray
    terminal: np.ndarray
    amount: np.ndarray
    fraud: np.ndarray

    def __len__(self) -> int:
        return len(self.time_s)


def simulate(world: World) -> Transactions:
    """Simulate the payments of all days, then mark the frauds."""
    rng = np.random.default_rng(world.seed)
    honest = _honest(world, rng)
    fraud = honest.amount > _LARGE_AMOUNT
    fraud |= _at_compromised_terminals(world, honest, rng)
    amount = honest.amount.copy()
    _with_stolen_cards(world, honest, rng, amount, fraud)
    return Transactions(honest.time_s, honest.customer, honest.terminal, amount, fraud)


def _honest(world: World, rng: np.random.Generator) -> Transactions:
    """Simulate the customers' own payments: Poisson counts per day, around noon, near home."""
    homes = rng.uniform(0, 100, (world.customers, 2))
    mean_amount = rng.uniform(5, 100, world.customers)
    mean_count = rng.uniform(0, 4, world.customers)
    places = rng.uniform(0, 100, (world.terminals, 2))
    nearby, starts = _nearby(homes, places, world.radius)

    counts = rng.poisson(mean_count[:, None], (world.customers, world.days))
    customer = np.repeat(np.arange(world.customers), counts.sum(axis=1))
    day = np.repeat(np.tile(np.arange(world.days), world.customers), counts.ravel())
    second = rng.normal(_NOON_S, _SPREAD_S, len(customer)).astype(np.int64)
    mean = mean_amount[customer]
    amount = rng.normal(mean, mean / 2)
    amount = np.round(np.where(amount < 0, rng.uniform(0, 2 * mean), amount), 2)
    choices = np.diff(starts)[customer]
    choice = starts[customer] + (rng.random(len(customer)) * choices).astype(np.int64)
    is_valid = (second > 0) & (second < DAY_S) & (choices > 0)

    time_s = (day * DAY_S + second)[is_valid]
    order = np.argsort(time_s, kind="stable")
    return Transactions(
        time_s[order],
        customer[is_valid][order].astype(np.int32),
        nearby[choice[is_valid]][order].astype(np.int32),
        amount[is_valid][order],
        np.zeros(len(order), bool),
    )


def _nearby(homes: np.ndarray, places: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the terminals near each customer, in one array.

    Returns:
        Terminal numbers of all customers one after another, and where each customer's begin
        (one longer than the customers).
    """
    near = [np.flatnonzero(((places - home) ** 2).sum(axis=1) < radius**2) for home in homes]
    starts = np.concatenate([[0], np.cumsum([len(terminals) for terminals in near])])
    return np.concatenate([*near, [0]]), starts


def _at_compromised_terminals(
    world: World, honest: Transactions, rng: np.random.Generator
) -> np.ndarray:
    """Mark scenario 2: two terminals a day are compromised and take only fraud for 28 days."""
    compromised = np.zeros((world.terminals, world.days), bool)
    for day in range(world.days):
        drawn = rng.choice(world.terminals, _TERMINALS_A_DAY, replace=False)
        compromised[drawn, day : day + _TERMINAL_DAYS] = True
    return compromised[honest.terminal, honest.time_s // DAY_S]


def _with_stolen_cards(
    world: World,
    honest: Transactions,
    rng: np.random.Generator,
    amount: np.ndarray,
    fraud: np.ndarray,
) -> None:
    """Mark scenario 3: three cards a day are copied; a third of 14 days is fraud at 5x."""
    by_customer = np.argsort(honest.customer, kind="stable")
    starts = np.searchsorted(honest.customer[by_customer], np.arange(world.customers + 1))
    for day in range(world.days):
        for customer in rng.choice(world.customers, _CUSTOMERS_A_DAY, replace=False):
            rows = by_customer[starts[customer] : starts[customer + 1]]
            days = honest.time_s[rows] // DAY_S
            rows = rows[(days >= day) & (days < day + _CUSTOMER_DAYS)]
            stolen = rng.choice(rows, len(rows) // 3, replace=False)
            amount[stolen] *= _AMOUNT_FACTOR
            fraud[stolen] = True
