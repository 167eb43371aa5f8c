"""Recipe ``shop-ranker``: rank the products retrieved for queries of one category."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.queries import Queries, gains, queries
from runners.recipes.shop.data.simulator import World, products
from runners.recipes.shop.data.vocabulary import CATEGORIES
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training import search
from runners.recipes.shop.training.measures import mean, ndcg
from runners.recipes.shop.training.trees import train_ranker, write_trees

SIZES = {"small": (20, 8), "large": (120, 15)}
"""The number of trees, and the leaves of each."""

_DRAW, _QUERIES_EACH, _SHARE_JUDGED = 2, 400, 0.25


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: ``category``, and ``size``, small or large.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    values = chosen("shop-ranker", options, {"category": CATEGORIES, "size": tuple(SIZES)})
    world = world or World()
    report(f"training the {values['size']} ranker of {values['category']}")
    category_queries = _of_category(world, CATEGORIES.index(values["category"]))
    items, features, gained = _retrieved(world, category_queries)
    learnt = int(len(items) * (1 - _SHARE_JUDGED))
    flat = features[:learnt].reshape(-1, len(search.COLUMNS))
    model = train_ranker(
        flat, gained[:learnt].reshape(-1), [search.TOP] * learnt, *SIZES[values["size"]]
    )
    write_trees(model, len(search.COLUMNS), "score", out / "model.onnx")
    (out / "task.json").write_text(json.dumps({"columns": search.COLUMNS}))
    quality, unranked = _ndcg(out / "model.onnx", features[learnt:], gained[learnt:])
    measured = {"metric": "ndcg@10", "quality": quality, "by_likeness_alone": unranked}
    return Origin((), measured, ("lightgbm", "onnxmltools", "onnx", "numpy"))


@cache
def _all_queries(world: World) -> Queries:
    return queries(world, _QUERIES_EACH * len(CATEGORIES), _DRAW)


def _of_category(world: World, category: int) -> Queries:
    category_queries = _all_queries(world)
    return category_queries.rows(np.flatnonzero(category_queries.category == category))


def _retrieved(
    world: World, category_queries: Queries
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the retrieved products of each query, their features, and customers' actions."""
    table, shop = search.embedder_table(world), products(world)
    index = search.embed(shop.title, table)
    items, features = search.nearest(
        search.embed(category_queries.text, table), index, search.facts(world)
    )
    rng = np.random.default_rng([world.seed, 41])
    gained = [gains(category_queries, row, shop, items[row], rng) for row in range(len(items))]
    return items, features, np.stack(gained)


def _ndcg(path: Path, features: np.ndarray, gained: np.ndarray) -> tuple[float, float]:
    """Return nDCG@10 of the ranked order and of the retrieved order."""
    flat = run_onnx(path, {"features": features.reshape(-1, features.shape[2])})
    order = np.argsort(-flat.reshape(features.shape[:2]), axis=1, kind="stable")
    ranked = np.take_along_axis(gained, order, axis=1)
    return (
        mean([ndcg(row, row) for row in ranked]),
        mean([ndcg(row, row) for row in gained]),
    )
