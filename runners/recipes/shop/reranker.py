"""Recipe ``shop-reranker``: rerank the items of one market's recommender."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop import recommender
from runners.recipes.shop.data.simulator import World, market
from runners.recipes.shop.data.vocabulary import MARKETS
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training.measures import mean, ndcg
from runners.recipes.shop.training.trees import train_ranker, write_trees

_TREES, _LEAVES = 60, 8
_JUDGED = 4


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Of the purchases that the recommender is not trained on, the first half trains the reranker and
    the second half evaluates it.

    Args:
        options: ``market``.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    market_name = chosen("shop-reranker", options, {"market": MARKETS})["market"]
    world = world or World()
    report(f"training the reranker of {market_name}")
    with tempfile.TemporaryDirectory() as scratch:
        recommender.write(world, market_name, "large", Path(scratch) / "recommender.onnx")
        items, features = recommender.run(
            Path(scratch) / "recommender.onnx", np.arange(world.users)
        )
    learnt, bought = market(world, market_name).split()
    new = np.stack([~np.isin(items[user], learnt[user]) for user in range(world.users)])
    labels = [
        np.stack([np.isin(items[user], part[user]) for user in range(world.users)])
        for part in (bought[:, :-_JUDGED], bought[:, -_JUDGED:])
    ]
    # The recommender's own training items always come first: only new items are informative.
    groups = new.sum(axis=1).tolist()
    model = train_ranker(features[new], labels[0][new].astype(np.int64), groups, _TREES, _LEAVES)
    path = out / "model.onnx"
    write_trees(model, len(recommender.COLUMNS), "score", path)
    (out / "task.json").write_text(json.dumps({"columns": recommender.COLUMNS}))
    scores = run_onnx(path, {"features": features.reshape(-1, features.shape[2])})
    scores = scores.reshape(new.shape)
    judged = new & ~labels[0]
    measured = {
        "metric": "ndcg@10",
        "quality": _ndcg(scores, labels[1], judged),
        "by_likeness_alone": _ndcg(features[..., 0], labels[1], judged),
    }
    return Origin((), measured, ("lightgbm", "onnxmltools", "onnx", "numpy"))


def _ndcg(scores: np.ndarray, bought: np.ndarray, judged: np.ndarray) -> float:
    """Return nDCG@10 over the judged items, for the users who bought any of them."""
    values = []
    for user in range(len(scores)):
        kept = np.flatnonzero(judged[user])
        ranked = bought[user][kept[np.argsort(-scores[user][kept], kind="stable")]]
        if ranked.any():
            values.append(ndcg(ranked.astype(float), ranked.astype(float)))
    return mean(values)
