"""Simulate queries, the products that customers mean, and their actions on results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from runners.recipes.shop.data.simulator import NOUN_LIST, Products, World, products
from runners.recipes.shop.data.vocabulary import (
    AUDIENCES,
    BRANDS,
    CATEGORIES,
    COLOURS,
    NOUNS,
    STYLES,
)

_SEED = 7
_TYPO_SHARE = 0.15
_KINDS = ("brand", "style", "audience", "colour")
_WORDS = {"brand": BRANDS, "style": STYLES, "audience": AUDIENCES, "colour": COLOURS}
_ATTRIBUTE_SHARES = {"brand": 0.35, "style": 0.3, "audience": 0.3, "colour": 0.45}
_WEIGHTS = (0.9, -0.8, 0.6, 0.4)
"""The weights of appeal, price, discount and freshness; each category scales them."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries, one per row.

    Attributes:
        text: the typed text.
        noun: int64 [n], the kind of product, a place in ``NOUN_LIST``.
        attributes: int64 [n, 4], brand, style, audience, colour; -1 where the text has none.
        target: int64 [n], the product that the customer means.
    """

    text: list[str]
    noun: np.ndarray
    attributes: np.ndarray
    target: np.ndarray

    @property
    def category(self) -> np.ndarray:
        """Return each query's category, int64 [n]."""
        return np.array([CATEGORIES.index(NOUN_LIST[noun][0]) for noun in self.noun])

    def rows(self, chosen: np.ndarray) -> Queries:
        """Return the queries of these rows."""
        text = [self.text[row] for row in chosen]
        return Queries(text, self.noun[chosen], self.attributes[chosen], self.target[chosen])


@cache
def queries(world: World, count: int, draw: int) -> Queries:
    """Return ``count`` simulated queries; another ``draw`` gives others."""
    rng = np.random.default_rng([world.seed, _SEED, draw])
    shop = products(world)
    share = shop.popularity / shop.popularity.sum()
    target = rng.choice(len(shop), count, p=share)
    attributes = np.stack(
        [
            np.where(rng.random(count) < _ATTRIBUTE_SHARES[kind], getattr(shop, kind)[target], -1)
            for kind in _KINDS
        ],
        axis=1,
    )
    unisex = AUDIENCES.index("unisex")
    attributes[:, 2][attributes[:, 2] == unisex] = -1
    noun = shop.noun[target]
    return Queries(
        [_query_text(noun[i], attributes[i], rng) for i in range(count)], noun, attributes, target
    )


def relevance(typed: Queries, row: int, shop: Products, items: np.ndarray) -> np.ndarray:
    """Return the relevance of products to a query, in [0, 1], by noun, category and attributes."""
    noun = shop.noun[items] == typed.noun[row]
    same_category = shop.category[items] == typed.category[row]
    match = np.where(noun, 1.0, np.where(same_category, 0.15, 0.0))
    for place, kind in enumerate(_KINDS):
        value = typed.attributes[row, place]
        if value >= 0:
            match *= np.where(getattr(shop, kind)[items] == value, 1.0, 0.45)
    return match


def gains(
    typed: Queries, row: int, shop: Products, items: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return customers' actions on a query's products: 0 none, 1 click, 2 basket, 3 purchase.

    Each category weighs appeal, price, discount and freshness in its own way.
    """
    match = relevance(typed, row, shop, items)
    weights = category_weights(int(typed.category[row]))
    log_price = np.log(shop.price_eur[items] * (1 - shop.discount[items]))
    centre = np.median(np.log(shop.price_eur[shop.noun == typed.noun[row]]))
    utility = (
        weights[0] * shop.appeal[items]
        + weights[1] * (log_price - centre)
        + weights[2] * 4 * shop.discount[items]
        + weights[3] * np.exp(-shop.age_days[items] / 60) * 2
        - 3.0 * (shop.stock[items] == 0)
    )
    interest = match * 4.2 + utility - 3.4 + rng.logistic(0, 0.35, len(items))
    return np.where(match < 0.1, 0, np.digitize(interest, [0.0, 1.0, 2.0]))


def category_weights(category: int) -> np.ndarray:
    """Return the weights of a category's customers for each of ``_WEIGHTS``."""
    rng = np.random.default_rng([_SEED, category])
    return np.array(_WEIGHTS) * rng.uniform(0.2, 1.8, len(_WEIGHTS))


def _query_text(noun: int, attributes: np.ndarray, rng: np.random.Generator) -> str:
    category, name = NOUN_LIST[noun]
    names = (name, *NOUNS[category][name])
    words = [names[rng.integers(len(names))]]
    for kind, value in zip(_KINDS, attributes, strict=True):
        if value >= 0:
            word = _WORDS[kind][value].lower()
            last = kind == "audience" and rng.random() < 0.6
            words = [*words, f"for {word}"] if last else [word, *words]
    text = " ".join(words)
    return _with_typo(text, rng) if rng.random() < _TYPO_SHARE else text


def _with_typo(text: str, rng: np.random.Generator) -> str:
    """Return the text with one letter missing, doubled, or swapped with the next."""
    at = int(rng.integers(len(text) - 1))
    kind = rng.integers(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
