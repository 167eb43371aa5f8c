"""Evaluate search and recommendations end to end, on held-out queries and purchases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime

from runners.recipes.onnx_session import run_onnx
from runners.recipes.shop import recommender
from runners.recipes.shop.data.simulator import World, market, products
from runners.recipes.shop.data.vocabulary import CATEGORIES, MARKETS
from runners.recipes.shop.training import search
from runners.recipes.shop.training.measures import mean, ndcg, recall
from runners.tasks.hashed_ngrams import HashedNgrams

Rows: TypeAlias = dict[str, dict[str, float]]
Report: TypeAlias = Callable[[str], None]
_SHOWN = 20
_JUDGED = 4
"""The last held-out purchases of each customer: no reranker is trained on them."""


def judge(
    folders: Mapping[str, Path], report: Report, world: World | None = None
) -> dict[str, Rows]:
    """Evaluate the models of a catalog.

    Args:
        folders: each model's folder, by its catalog name.
        report: called with one line of progress at a time.
        world: another shop than the default one.

    Returns:
        A table for search and one for recommendations: a row's values by column.
    """
    world = world or World()
    report("evaluating search on held-out queries")
    tables: dict[str, Rows] = {"search: nDCG@10": _search(folders, world)}
    report("evaluating recommendations on held-out purchases")
    tables["recommend: recall@20, nDCG@10"] = _recommend(folders, world)
    return tables


def _search(folders: Mapping[str, Path], world: World) -> Rows:
    held_out, gains_of = search.held_out(world)
    shop = products(world)
    category = held_out.category
    popular = np.argsort(-shop.popularity, kind="stable")
    rng = np.random.default_rng(world.seed)
    orders: dict[str, list[np.ndarray]] = {"chance": [], "popularity": []}
    for _ in gains_of:
        orders["chance"].append(rng.permutation(len(shop)))
        orders["popularity"].append(popular)
    precisions = ("int8", "fp32")
    for precision in precisions:
        items, features = _retrieved(folders, precision, held_out.text)
        orders[f"{precision}: embed, retrieve"] = list(items)
        for size in ("small", "large"):
            ranked = [
                items[row][np.argsort(-_scores(folders, category[row], size, features[row]))]
                for row in range(len(items))
            ]
            orders[f"{precision}: embed, retrieve, rank {size}"] = ranked
    return {
        name: {
            "nDCG@10": mean(
                [ndcg(gain[order], gain) for gain, order in zip(gains_of, each, strict=True)]
            )
        }
        for name, each in orders.items()
    }


def _retrieved(
    folders: Mapping[str, Path], precision: str, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    grams = HashedNgrams(search.BUCKETS).read(texts)
    vectors = run_onnx(folders[f"embed-query-{precision}"] / "model.onnx", grams)
    session = _session(folders[f"index-{precision}"])
    items, features = session.run(["item", "features"], {"embedding": vectors})
    return np.asarray(items), np.asarray(features)


def _scores(
    folders: Mapping[str, Path], category: int, size: str, features: np.ndarray
) -> np.ndarray:
    session = _session(folders[f"rank-{CATEGORIES[category]}-{size}"])
    return np.asarray(session.run(None, {"features": features})[0]).ravel()


def _recommend(folders: Mapping[str, Path], world: World) -> Rows:
    rows: Rows = {}
    for name in MARKETS:
        _, bought = market(world, name).split()
        popular = recommender.popularity(world, name)
        values = {
            "chance": _SHOWN / world.products,
            "popularity": mean([recall(popular, each) for each in bought]),
        }
        for size in ("small", "large"):
            items, features = recommender.run(
                folders[f"recommend-{name}-{size}"] / "model.onnx", np.arange(world.users)
            )
            new = [recommender.unseen(world, name, items, user) for user in range(world.users)]
            values[size] = mean([recall(n, b) for n, b in zip(new, bought, strict=True)])
        values |= _reranked(folders, world, name, items, features)
        rows[name] = values
    return rows


def _reranked(
    folders: Mapping[str, Path], world: World, name: str, items: np.ndarray, features: np.ndarray
) -> dict[str, float]:
    """Return nDCG@10 of the new items retrieved, before and after reranking."""
    learnt, bought = market(world, name).split()
    flat = {"features": features.reshape(-1, features.shape[2])}
    scores = run_onnx(folders[f"rerank-{name}-trees"] / "model.onnx", flat).reshape(items.shape)
    before, after = [], []
    for user in range(world.users):
        excluded = np.concatenate([learnt[user], bought[user][:-_JUDGED]])
        kept = np.flatnonzero(~np.isin(items[user], excluded))
        hits = np.isin(items[user], bought[user][-_JUDGED:]).astype(float)
        if hits[kept].any():
            order = kept[np.argsort(-scores[user][kept], kind="stable")]
            before.append(ndcg(hits[kept], hits[kept]))
            after.append(ndcg(hits[order], hits[kept]))
    return {"nDCG retrieved": mean(before), "nDCG reranked": mean(after)}


@cache
def _session(folder: Path) -> onnxruntime.InferenceSession:
    path = str(folder / "model.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
