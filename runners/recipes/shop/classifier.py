"""Recipe ``shop-classifier``: classify a query's category or a review's mood or topic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from runners.recipes.onnx_int8 import to_int8
from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.queries import queries
from runners.recipes.shop.data.reviews import MOODS, reviews
from runners.recipes.shop.data.simulator import World
from runners.recipes.shop.data.vocabulary import CATEGORIES, TOPICS
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training.graphs import write_classifier
from runners.recipes.shop.training.text_models import train_classifier
from runners.tasks.hashed_ngrams import HashedNgrams

SIZES = {"small": (1_024, 12, 0, 6_000), "large": (16_384, 48, 32, 20_000)}
"""Hash buckets, width of a text's vector, hidden units, training texts."""

_JUDGED = 4_000
_LABELS = {"category": CATEGORIES, "mood": MOODS, "topic": tuple(TOPICS)}


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: ``of``, category, mood or topic; ``size``, small or large; ``precision``.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    allowed = {"of": tuple(_LABELS), "size": tuple(SIZES), "precision": ("fp32", "int8")}
    values = chosen("shop-classifier", options, allowed)
    buckets, width, hidden, learnt = SIZES[values["size"]]
    report(f"training the {values['size']} classifier of {values['of']}")
    texts, labels = _texts(world or World(), values["of"], learnt, 3)
    table, layers = train_classifier(texts, labels, buckets, width, hidden)
    path = out / "model.onnx"
    write_classifier(table, layers, path)
    if values["precision"] == "int8":
        to_int8(path)
    (out / "task.json").write_text(
        json.dumps({"buckets": buckets, "labels": _LABELS[values["of"]]})
    )
    texts, labels = _texts(world or World(), values["of"], _JUDGED, 4)
    shares = run_onnx(path, HashedNgrams(buckets).read(texts))
    right = round(float((shares.argmax(axis=1) == labels).mean()), 4)
    return Origin((), {"metric": "accuracy", "quality": right}, ("torch", "onnx", "numpy"))


def _texts(world: World, of: str, count: int, draw: int) -> tuple[list[str], np.ndarray]:
    if of == "category":
        typed = queries(world, count, draw)
        return typed.text, typed.category
    reviewed = reviews(count, draw)
    return reviewed.text, reviewed.mood if of == "mood" else reviewed.topic
