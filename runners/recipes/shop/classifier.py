"""Recipe ``shop-classifier``: a query's category, a review's mood or topic, by hashed text."""

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
"""Hash buckets, width of a text's vector, hidden units, texts learnt from."""

_JUDGED = 4_000
_LABELS = {"category": CATEGORIES, "mood": MOODS, "topic": tuple(TOPICS)}


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: ``of``, category, mood or topic; ``size``, small or large; ``precision``.
        out: where to.
        report: told what happens.
        world: another shop than the usual one.
    """
    allowed = {"of": tuple(_LABELS), "size": tuple(SIZES), "precision": ("fp32", "int8")}
    said = chosen("shop-classifier", options, allowed)
    buckets, width, hidden, learnt = SIZES[said["size"]]
    report(f"training the {said['size']} classifier of {said['of']}")
    texts, labels = _texts(world or World(), said["of"], learnt, 3)
    table, layers = train_classifier(texts, labels, buckets, width, hidden)
    path = out / "model.onnx"
    write_classifier(table, layers, path)
    if said["precision"] == "int8":
        to_int8(path)
    (out / "task.json").write_text(json.dumps({"buckets": buckets, "labels": _LABELS[said["of"]]}))
    texts, labels = _texts(world or World(), said["of"], _JUDGED, 4)
    shares = run_onnx(path, HashedNgrams(buckets).read(texts))
    right = round(float((shares.argmax(axis=1) == labels).mean()), 4)
    return Origin((), {"metric": "accuracy", "quality": right}, ("torch", "onnx", "numpy"))


def _texts(world: World, of: str, count: int, draw: int) -> tuple[list[str], np.ndarray]:
    if of == "category":
        asked = queries(world, count, draw)
        return asked.text, asked.category
    written = reviews(count, draw)
    return written.text, written.mood if of == "mood" else written.topic
