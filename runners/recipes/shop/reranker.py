"""Recipe ``shop-reranker``: the order of what one market's recommender found."""

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

    Of the purchases the recommender did not learn from, the first half is learnt from here; the
    second half judges.

    Args:
        options: ``market``.
        out: where to.
        report: told what happens.
        world: another shop than the usual one.
    """
    said = chosen("shop-reranker", options, {"market": MARKETS})["market"]
    world = world or World()
    report(f"training the reranker of {said}")
    with tempfile.TemporaryDirectory() as scratch:
        recommender.write(world, said, "large", Path(scratch) / "found.onnx")
        items, features = recommender.run(Path(scratch) / "found.onnx", np.arange(world.users))
    seen, bought = market(world, said).split()
    new = np.stack([~np.isin(items[user], seen[user]) for user in range(world.users)])
    labels = [
        np.stack([np.isin(items[user], part[user]) for user in range(world.users)])
        for part in (bought[:, :-_JUDGED], bought[:, -_JUDGED:])
    ]
    # What the recommender has learnt from always comes first: only what is new tells anything.
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
    """Over what was found, for the users who bought any of it."""
    values = []
    for user in range(len(scores)):
        kept = np.flatnonzero(judged[user])
        shown = bought[user][kept[np.argsort(-scores[user][kept], kind="stable")]]
        if shown.any():
            values.append(ndcg(shown.astype(float), shown.astype(float)))
    return mean(values)
