"""Simulate the shop: products with qualities, customers with tastes, and their purchases.

A customer's utility of a product is taste (a dot product of hidden vectors), minus the price's
distance from the customer's usual one, plus the product's general appeal; a purchase is a draw from
the softmax of the utilities (a multinomial logit, as in discrete-choice models).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from runners.recipes.shop.data.vocabulary import (
    AUDIENCES,
    BRANDS,
    CATEGORIES,
    COLOURS,
    MARKETS,
    MATERIALS,
    NOUNS,
    STYLES,
)

SEED = 20260401
HIDDEN = 24
_SPREAD = {"noun": 0.9, "brand": 0.5, "style": 0.6, "audience": 0.5, "colour": 0.3}
_WORLD_SEED, _MARKET_SEED = 1, 100


@dataclass(frozen=True, slots=True)
class World:
    """The size and the seed of the shop.

    Attributes:
        products: their number, evenly over all categories.
        users: the customers of each market.
        purchases: the purchases of each customer.
        seed: the same seed gives the same shop.
    """

    products: int = 3_600
    users: int = 1_000
    purchases: int = 40
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class Products:
    """The products, one per row; a product's number is its row.

    Attributes:
        noun, brand, style, audience, colour, material: int64 [n], places in the vocabulary;
            a noun's place counts over all categories.
        category: int64 [n].
        title: the shop's name of the product.
        price_eur, discount, rating, reviews, age_days, stock, margin, return_rate, popularity:
            float64 [n]; popularity is the share of its category's past sales.
        appeal: float64 [n], its general appeal; hidden from the models.
        taste: float64 [n, HIDDEN], hidden from the models.
    """

    noun: np.ndarray
    brand: np.ndarray
    style: np.ndarray
    audience: np.ndarray
    colour: np.ndarray
    material: np.ndarray
    category: np.ndarray
    title: list[str]
    price_eur: np.ndarray
    discount: np.ndarray
    rating: np.ndarray
    reviews: np.ndarray
    age_days: np.ndarray
    stock: np.ndarray
    margin: np.ndarray
    return_rate: np.ndarray
    popularity: np.ndarray
    appeal: np.ndarray
    taste: np.ndarray

    def __len__(self) -> int:
        return len(self.title)


@dataclass(frozen=True, slots=True)
class Market:
    """One market's customers and purchases.

    Attributes:
        bought: int64 [users, purchases], products in the order they were bought.
    """

    bought: np.ndarray

    def split(self, held_out: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """Split into earlier purchases for training and each customer's last ones."""
        return self.bought[:, :-held_out], self.bought[:, -held_out:]


NOUN_LIST = tuple((category, noun) for category in CATEGORIES for noun in NOUNS[category])


@cache
def products(world: World) -> Products:
    """Return the shop's products."""
    rng = np.random.default_rng(world.seed + _WORLD_SEED)
    n = world.products
    noun = np.arange(n) % len(NOUN_LIST)
    category = np.array([CATEGORIES.index(NOUN_LIST[i][0]) for i in noun])
    kinds = {
        "noun": (noun, len(NOUN_LIST)),
        "brand": (_brands(category, rng), len(BRANDS)),
        "style": (rng.integers(len(STYLES), size=n), len(STYLES)),
        "audience": (rng.integers(len(AUDIENCES), size=n), len(AUDIENCES)),
        "colour": (rng.integers(len(COLOURS), size=n), len(COLOURS)),
    }
    material = rng.integers(len(MATERIALS), size=n)
    taste = rng.normal(0, 0.35, (n, HIDDEN))
    for name, (value, size) in kinds.items():
        taste += rng.normal(0, _SPREAD[name], (size, HIDDEN))[value]
    appeal = rng.normal(0, 1, n)
    usual = np.exp(rng.normal(3.6, 0.8, len(NOUN_LIST)))[noun]
    dear = np.exp(rng.normal(0, 0.25, len(BRANDS)))[kinds["brand"][0]]
    price = np.round(usual * dear * np.exp(rng.normal(0, 0.3, n)), 2)
    discount = np.where(rng.random(n) < 0.3, rng.choice([0.1, 0.2, 0.3, 0.5], n), 0.0)
    age = rng.exponential(240, n)
    sold = np.exp(0.8 * appeal + rng.normal(0, 0.6, n) + 0.3 * np.log1p(age))
    popularity = sold / np.bincount(category, sold)[category]
    value = {name: kind[0] for name, kind in kinds.items()}
    return Products(
        **value,
        material=material,
        category=category,
        title=[_title(i, value, material[i]) for i in range(n)],
        price_eur=price,
        discount=discount,
        rating=np.clip(3.9 + 0.45 * appeal + rng.normal(0, 0.25, n), 1, 5),
        reviews=rng.poisson(popularity * 4000),
        age_days=age,
        stock=rng.poisson(30, n) * (rng.random(n) > 0.05),
        margin=np.clip(rng.normal(0.35, 0.1, n), 0.05, 0.7),
        return_rate=np.clip(0.15 - 0.04 * appeal + rng.normal(0, 0.03, n), 0.01, 0.6),
        popularity=popularity,
        appeal=appeal,
        taste=taste,
    )


@cache
def market(world: World, name: str) -> Market:
    """Simulate one market's purchases."""
    rng = np.random.default_rng(world.seed + _MARKET_SEED + MARKETS.index(name))
    shop = products(world)
    own = rng.normal(0, 0.5, HIDDEN)
    taste = own + rng.normal(0, 0.9, (world.users, HIDDEN))
    usual = rng.normal(3.6, 0.6, world.users)
    log_price = np.log(shop.price_eur * (1 - shop.discount))
    utility = taste @ shop.taste.T * 0.55 + 0.9 * shop.appeal
    utility -= 0.7 * np.abs(log_price[None, :] - usual[:, None])
    utility[:, shop.stock == 0] -= 3
    noisy = utility + rng.gumbel(0, 1, utility.shape)
    # The largest of utility plus Gumbel noise are draws without replacement from the softmax.
    bought = np.argpartition(-noisy, world.purchases, axis=1)[:, : world.purchases]
    return Market(rng.permuted(bought, axis=1))


def _brands(category: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return each product's brand; each category has six brands."""
    own = np.stack([rng.choice(len(BRANDS), 6, replace=False) for _ in CATEGORIES])
    return own[category, rng.integers(6, size=len(category))]


def _title(row: int, value: dict[str, np.ndarray], material: int) -> str:
    words = [
        BRANDS[value["brand"][row]],
        STYLES[value["style"][row]],
        COLOURS[value["colour"][row]],
        MATERIALS[material],
        NOUN_LIST[value["noun"][row]][1],
    ]
    audience = AUDIENCES[value["audience"][row]]
    return " ".join(words) + ("" if audience == "unisex" else f" for {audience}")
