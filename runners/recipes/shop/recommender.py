"""Recipe ``shop-recommender``: recommend items to one market's customers, by factorisation."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.simulator import World, market, products
from runners.recipes.shop.data.vocabulary import CATEGORIES, MARKETS
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training import graphs, search
from runners.recipes.shop.training.measures import mean, recall

TOP = 100
COLUMNS = ("likeness", "likeness_under_best", "off_usual_price", "share_of_category", *search.FACTS)
SIZES = {"small": (8, 0.03), "large": (32, 0.1)}
"""The width of a vector, and the weight decay."""

_STEPS, _LEARNING_RATE = 60, 0.08


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: ``market``, and ``size``, small or large.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    values = chosen("shop-recommender", options, {"market": MARKETS, "size": tuple(SIZES)})
    world = world or World()
    report(f"training the {values['size']} recommender of {values['market']}")
    write(world, values["market"], values["size"], out / "model.onnx")
    (out / "task.json").write_text(json.dumps({"top": TOP, "columns": COLUMNS}))
    _, bought = market(world, values["market"]).split()
    items, _ = run(out / "model.onnx", np.arange(world.users))
    quality = mean(
        [recall(unseen(world, values["market"], items, u), bought[u]) for u in range(len(bought))]
    )
    popular = popularity(world, values["market"])
    alike = mean([recall(popular, bought[u]) for u in range(len(bought))])
    measured = {"metric": "recall@20", "quality": quality, "by_popularity": alike}
    return Origin((), measured, ("torch", "onnx", "numpy"))


def write(world: World, name: str, size: str, path: Path) -> None:
    """Train the vectors of one market and write their graph."""
    users, items = _vectors(world, name, size)
    shop, facts = products(world), search.facts(world)
    learnt, _ = market(world, name).split()
    log_price = facts[:, 0]
    shares = np.stack(
        [np.bincount(shop.category[row], minlength=len(CATEGORIES)) for row in learnt]
    )
    shares = shares / shares.sum(axis=1, keepdims=True)
    usual = log_price[learnt].mean(axis=1)
    habits = {
        "usual": np.append(usual, usual.mean())[:, None].astype(np.float32),
        "shares": np.vstack([shares, shares.mean(axis=0)]).astype(np.float32),
        "log_price": log_price,
        "category": shop.category.astype(np.int64),
    }
    graphs.write_recommender(users, items, habits, facts, TOP, path)


def run(path: Path, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return items [n, top] and features [n, top, columns] for these users."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    item, features = session.run(["item", "features"], {"user": users.astype(np.int64)})
    return np.asarray(item), np.asarray(features)


def unseen(world: World, name: str, items: np.ndarray, user: int) -> np.ndarray:
    """Return a user's retrieved items without those of earlier purchases."""
    learnt, _ = market(world, name).split()
    return items[user][~np.isin(items[user], learnt[user])]


def popularity(world: World, name: str) -> np.ndarray:
    """Return all products, the most bought of this market first."""
    learnt, _ = market(world, name).split()
    return np.argsort(-np.bincount(learnt.ravel(), minlength=world.products), kind="stable")


@cache
def _vectors(world: World, name: str, size: str) -> tuple[np.ndarray, np.ndarray]:
    """Train vectors of users [n + 1, width + 1] and items [m, width + 1]; the bias is last.

    The loss is the softmax over all products of each user's purchases, with weight decay. The last
    user has only the bias and gets the popular items.

    Source: Liang et al., "Variational Autoencoders for Collaborative Filtering" (the multinomial
    likelihood), with plain factors for the encoder.
    """
    width, decay = SIZES[size]
    learnt, _ = market(world, name).split()
    torch.manual_seed(1)
    bought = torch.zeros(len(learnt), world.products).scatter_(1, torch.from_numpy(learnt), 1.0)
    users = torch.nn.Parameter(torch.randn(len(learnt), width) * 0.1)
    items = torch.nn.Parameter(torch.randn(world.products, width) * 0.1)
    bias = torch.nn.Parameter(torch.zeros(world.products))
    optimiser = torch.optim.Adam([users, items, bias], lr=_LEARNING_RATE)
    for _ in range(_STEPS):
        likeness = torch.log_softmax(users @ items.T + bias, dim=1)
        size_of = (users**2).sum(1).mean() + (items**2).sum(1).mean()
        loss = -(bought * likeness).sum() / bought.sum() + decay * size_of
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    vectors = users.detach().numpy()
    vectors = np.vstack([np.hstack([vectors, np.ones((len(vectors), 1))]), np.eye(width + 1)[-1]])
    return vectors.astype(np.float32), np.hstack(
        [items.detach().numpy(), bias.detach().numpy()[:, None]]
    )
