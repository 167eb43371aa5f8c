"""Simulate rows for two predictions: returns of orders, and churn of customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RETURN_COLUMNS = (
    "price_eur", "discount", "items_in_basket", "category_return_rate", "customer_return_rate",
    "same_item_two_sizes", "express", "gift", "account_age_days", "ordered_at_night",
)  # fmt: skip
CHURN_COLUMNS = (
    "days_since_order", "orders_last_year", "spent_last_year_eur", "mean_discount",
    "support_tickets", "newsletter_opens", "tenure_days", "return_share", "uses_app",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """``features`` float32 [n, columns] and ``happened`` bool [n]."""

    features: np.ndarray
    happened: np.ndarray
    columns: tuple[str, ...]


def returns(count: int, seed: int) -> Rows:
    """Return orders, and whether they were returned."""
    rng = np.random.default_rng([seed, 21])
    price = np.exp(rng.normal(3.6, 0.8, count))
    discount = np.where(rng.random(count) < 0.3, rng.uniform(0.1, 0.5, count), 0)
    basket = rng.poisson(1.6, count) + 1
    category = rng.choice([0.05, 0.1, 0.2, 0.45], count)
    customer = rng.beta(1.5, 6, count)
    sizes = rng.random(count) < np.where(category > 0.3, 0.25, 0.02)
    express, gift = rng.random(count) < 0.2, rng.random(count) < 0.1
    account, night = rng.exponential(500, count), rng.random(count) < 0.12
    logit = (
        -3.2
        + 4.0 * category
        + 4.5 * customer
        + 2.2 * sizes
        + 0.35 * (np.log(price) - 3.6) * (category > 0.15)
        - 1.2 * discount
        + 0.18 * (basket - 1) * (category > 0.3)
        + 0.5 * night * (account < 90)
        - 0.6 * gift
    )
    table = (price, discount, basket, category, customer, sizes, express, gift, account, night)
    return _rows(table, logit, RETURN_COLUMNS, rng)


def churn(count: int, seed: int) -> Rows:
    """Return customers, and whether they bought nothing in the next half year."""
    rng = np.random.default_rng([seed, 22])
    orders = rng.negative_binomial(2, 0.3, count)
    since = rng.exponential(365 / (orders + 1.0))
    spent = orders * np.exp(rng.normal(3.5, 0.5, count))
    discount = rng.beta(2, 8, count)
    tickets, opens = rng.poisson(0.4, count), rng.poisson(3, count)
    tenure = rng.exponential(700, count)
    returned, app = rng.beta(1.5, 6, count), rng.random(count) < 0.4
    logit = (
        -0.9
        + 0.9 * np.log1p(since / 30)
        - 0.9 * np.log1p(orders)
        + 0.5 * tickets * (tenure < 365)
        - 0.15 * opens
        + 1.5 * discount * (orders < 3)
        + 1.6 * (returned > 0.4)
        - 0.7 * app
    )
    table = (since, orders, spent, discount, tickets, opens, tenure, returned, app)
    return _rows(table, logit, CHURN_COLUMNS, rng)


def _rows(
    table: tuple[np.ndarray, ...],
    logit: np.ndarray,
    columns: tuple[str, ...],
    rng: np.random.Generator,
) -> Rows:
    happened = rng.random(len(logit)) < 1 / (1 + np.exp(-logit))
    return Rows(np.stack(table, axis=1).astype(np.float32), happened, columns)
