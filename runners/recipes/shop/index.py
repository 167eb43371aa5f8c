"""Recipe ``shop-index``: retrieve the nearest products to a query, with ranking features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from runners.recipes.onnx_int8 import to_int8
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.simulator import World, products
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training import graphs, search
from runners.recipes.shop.training.measures import mean, recall


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: ``precision``, fp32 or int8.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    values = chosen("shop-index", options, {"precision": ("fp32", "int8")})
    world = world or World()
    table = search.embedder_table(world)
    report(f"indexing {world.products:,} products")
    index = search.embed(products(world).title, table)
    path = out / "model.onnx"
    graphs.write_index(index, search.facts(world), search.TOP, path)
    if values["precision"] == "int8":
        to_int8(path, ("MatMul",))
    settings = {"width": search.WIDTH, "top": search.TOP, "columns": search.COLUMNS}
    (out / "task.json").write_text(json.dumps(settings))
    measured = {"metric": f"recall@{search.TOP}", "quality": _recall(path, world, table)}
    return Origin((), measured, ("onnx", "numpy"))


def _recall(path: Path, world: World, table: np.ndarray) -> float:
    held_out, gained = search.held_out(world)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    items = np.asarray(session.run(["item"], {"embedding": search.embed(held_out.text, table)})[0])
    wanted = [np.flatnonzero(gain >= 2) for gain in gained]
    return mean(
        [recall(items[row], want, search.TOP) for row, want in enumerate(wanted) if len(want)]
    )
