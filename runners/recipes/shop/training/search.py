"""The parts of search: the embedder of queries and titles, the index, the ranking features."""

from __future__ import annotations

from functools import cache

import numpy as np

from runners.recipes.shop.data.queries import Queries, gains, queries
from runners.recipes.shop.data.simulator import World, products
from runners.recipes.shop.training.text_models import train_embedder
from runners.tasks.hashed_ngrams import HashedNgrams

BUCKETS, WIDTH, TOP = 32_768, 64, 100
HELD_OUT = 1
"""The draw of the held-out queries."""
_LEARNT, _LEARNT_QUERIES, HELD_OUT_QUERIES = 0, 20_000, 600

FACTS = (
    "log_price", "price_for_its_kind", "discount", "rating", "log_reviews", "log_popularity",
    "months_old", "in_stock", "margin", "return_rate",
)  # fmt: skip
COLUMNS = ("likeness", "likeness_under_best", *FACTS)


@cache
def embedder_table(world: World) -> np.ndarray:
    """Return gram vectors that place a query near its titles, float32 [buckets + 1, width]."""
    learnt, shop = queries(world, _LEARNT_QUERIES, _LEARNT), products(world)
    titles = [shop.title[item] for item in learnt.target]
    return train_embedder((learnt.text, titles), BUCKETS, WIDTH, epochs=3)


def embed(texts: list[str], table: np.ndarray) -> np.ndarray:
    """Return unit vectors, float32 [n, width], as the embedder's graph computes them."""
    grams = HashedNgrams(len(table) - 1).read(texts)["grams"]
    vectors = np.stack([table[row].sum(axis=0) for row in grams])
    return vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True) + 1e-12)


@cache
def facts(world: World) -> np.ndarray:
    """Return the known facts of each product, float32 [products, columns of ``FACTS``]."""
    shop = products(world)
    log_price = np.log(shop.price_eur * (1 - shop.discount))
    usual = np.array(
        [np.median(log_price[shop.noun == kind]) for kind in range(shop.noun.max() + 1)]
    )
    columns = (
        log_price,
        log_price - usual[shop.noun],
        shop.discount,
        shop.rating,
        np.log1p(shop.reviews),
        np.log(shop.popularity),
        shop.age_days / 30,
        shop.stock > 0,
        shop.margin,
        shop.return_rate,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def nearest(
    vectors: np.ndarray, index: np.ndarray, facts_of_items: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return items [n, top] and float32 features [n, top, columns], as the index's graph does."""
    scores = vectors @ index.T
    items = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    score = np.take_along_axis(scores, items, axis=1)
    features = [score[..., None], (score - score[:, :1])[..., None], facts_of_items[items]]
    return items, np.concatenate(features, axis=2).astype(np.float32)


@cache
def held_out(world: World) -> tuple[Queries, list[np.ndarray]]:
    """Return held-out queries, and the gains of every product for each."""
    held, shop = queries(world, HELD_OUT_QUERIES, HELD_OUT), products(world)
    rng = np.random.default_rng([world.seed, 31])
    every = np.arange(len(shop))
    return held, [gains(held, row, shop, every, rng) for row in range(len(held.text))]
