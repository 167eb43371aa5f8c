"""What customers type, which products they meant, and what they would buy of what they see."""

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
_ASKED = {"brand": 0.35, "style": 0.3, "audience": 0.3, "colour": 0.45}
_WEIGHTS = (0.9, -0.8, 0.6, 0.4)
"""What counts beside relevance: appeal, price, discount, freshness; each category its own share."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries, a row each.

    Attributes:
        text: what was typed.
        noun: int64 [n], what it asks for, a place in ``NOUN_LIST``.
        asked: int64 [n, 4], brand, style, audience, colour; -1 where it does not say.
        target: int64 [n], the product the customer had in mind.
    """

    text: list[str]
    noun: np.ndarray
    asked: np.ndarray
    target: np.ndarray

    @property
    def category(self) -> np.ndarray:
        """Int64 [n]."""
        return np.array([CATEGORIES.index(NOUN_LIST[noun][0]) for noun in self.noun])

    def rows(self, chosen: np.ndarray) -> Queries:
        """The queries of these rows."""
        text = [self.text[row] for row in chosen]
        return Queries(text, self.noun[chosen], self.asked[chosen], self.target[chosen])


@cache
def queries(world: World, count: int, draw: int) -> Queries:
    """Type ``count`` queries; another ``draw`` types others."""
    rng = np.random.default_rng([world.seed, _SEED, draw])
    shop = products(world)
    share = shop.popularity / shop.popularity.sum()
    target = rng.choice(len(shop), count, p=share)
    asked = np.stack(
        [
            np.where(rng.random(count) < _ASKED[kind], getattr(shop, kind)[target], -1)
            for kind in _KINDS
        ],
        axis=1,
    )
    unisex = AUDIENCES.index("unisex")
    asked[:, 2][asked[:, 2] == unisex] = -1
    noun = shop.noun[target]
    return Queries([_typed(noun[i], asked[i], rng) for i in range(count)], noun, asked, target)


def relevance(found: Queries, row: int, shop: Products, items: np.ndarray) -> np.ndarray:
    """How well products answer a query, in [0, 1]: the kind of thing first, then what is asked."""
    noun = shop.noun[items] == found.noun[row]
    same_category = shop.category[items] == found.category[row]
    match = np.where(noun, 1.0, np.where(same_category, 0.15, 0.0))
    for place, kind in enumerate(_KINDS):
        value = found.asked[row, place]
        if value >= 0:
            match *= np.where(getattr(shop, kind)[items] == value, 1.0, 0.45)
    return match


def gains(
    found: Queries, row: int, shop: Products, items: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What customers did with products shown for a query: 0 nothing, 1 click, 2 basket, 3 bought.

    Each category weighs appeal, price, discount and freshness in its own way.
    """
    match = relevance(found, row, shop, items)
    weights = category_weights(int(found.category[row]))
    log_price = np.log(shop.price_eur[items] * (1 - shop.discount[items]))
    centre = np.median(np.log(shop.price_eur[shop.noun == found.noun[row]]))
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
    """How much a category's customers care for each of ``_WEIGHTS``."""
    rng = np.random.default_rng([_SEED, category])
    return np.array(_WEIGHTS) * rng.uniform(0.2, 1.8, len(_WEIGHTS))


def _typed(noun: int, asked: np.ndarray, rng: np.random.Generator) -> str:
    category, name = NOUN_LIST[noun]
    names = (name, *NOUNS[category][name])
    words = [names[rng.integers(len(names))]]
    for kind, value in zip(_KINDS, asked, strict=True):
        if value >= 0:
            word = _WORDS[kind][value].lower()
            last = kind == "audience" and rng.random() < 0.6
            words = [*words, f"for {word}"] if last else [word, *words]
    text = " ".join(words)
    return _mistyped(text, rng) if rng.random() < _TYPO_SHARE else text


def _mistyped(text: str, rng: np.random.Generator) -> str:
    """One letter missing, doubled, or swapped with the next."""
    at = int(rng.integers(len(text) - 1))
    kind = rng.integers(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
