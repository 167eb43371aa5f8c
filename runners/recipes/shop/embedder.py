"""Recipe ``shop-embedder``: embed queries and titles in one space, by hashed text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from runners.recipes.onnx_export import program_of
from runners.recipes.onnx_int8 import to_int8
from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.simulator import World, products
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training import graphs, search
from runners.recipes.shop.training.measures import mean, recall
from runners.tasks.hashed_ngrams import HashedNgrams


class _Embedder(torch.nn.Module):
    """The network of ``graphs.write_embedder`` for the torch engine."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.from_numpy(table))

    def forward(self, grams: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map int64 [n, m] to ``sentence``, float32 [n, width]."""
        total = torch.nn.functional.embedding(grams, self.table).sum(1)
        return {"sentence": total / torch.sqrt((total**2).sum(1, keepdim=True) + 1e-12)}


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` or ``model.pt2``, and ``task.json``.

    Args:
        options: ``precision``, fp32 or int8, and ``engine``, onnx or torch.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    allowed = {"precision": ("fp32", "int8"), "engine": ("onnx", "torch")}
    values = chosen("shop-embedder", options, allowed)
    world = world or World()
    report("training the embedder of queries")
    table = search.embedder_table(world)
    path = out / "model.onnx"
    graphs.write_embedder(table, path)
    if values["precision"] == "int8":
        to_int8(path)
    quality = _recall(path, world, table)
    if values["engine"] == "torch":
        path.unlink()
        _write_program(table, out / "model.pt2")
    settings = {"buckets": search.BUCKETS, "width": search.WIDTH}
    (out / "task.json").write_text(json.dumps(settings))
    measured = {"metric": f"recall@{search.TOP}", "quality": quality}
    return Origin((), measured, ("torch", "onnx", "numpy"))


def _recall(path: Path, world: World, table: np.ndarray) -> float:
    """Return the recall of products that customers put into the basket for held-out queries."""
    held_out, gained = search.held_out(world)
    vectors = run_onnx(path, HashedNgrams(len(table) - 1).read(held_out.text))
    index = search.embed(products(world).title, table)
    items, _ = search.nearest(vectors, index, search.facts(world))
    wanted = [np.flatnonzero(gain >= 2) for gain in gained]
    return mean(
        [recall(items[row], want, search.TOP) for row, want in enumerate(wanted) if len(want)]
    )


def _write_program(table: np.ndarray, path: Path) -> None:
    rows = torch.export.Dim("rows", min=1, max=4096)
    grams = torch.export.Dim("grams", min=1, max=4096)
    example = (torch.ones(2, 3, dtype=torch.int64),)
    torch.export.save(
        program_of(_Embedder(table).eval(), example, {"grams": {0: rows, 1: grams}}), path
    )
