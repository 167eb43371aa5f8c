"""Recipe ``fraud``: train on simulated transactions, evaluate on later ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from runners.recipes.fraud.evaluation import evaluate
from runners.recipes.fraud.simulator import World
from runners.recipes.fraud.table import Table, simulated
from runners.recipes.fraud.training import SIZES, predict, train, write_onnx
from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from turnout.errors import ArtifactInvalid

_TOLERANCE = 0.02
"""ONNX rounds the trees' thresholds to float32, so a value on a threshold may change sides."""

_COMPARED_ROWS = 20_000


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.onnx`` and ``quality.json``.

    Args:
        options: ``size``, ``small`` or ``large``.
        out: the artefact's folder.
        report: called with one line of progress at a time.
    """
    size = options.get("size", "small")
    if size not in SIZES or set(options) - {"size"}:
        raise ArtifactInvalid(f"recipe fraud takes size: small or large, not {dict(options)}")
    world = World()
    report(f"simulating {world.days} days of card payments")
    return train_into(simulated(world), str(size), out, report)


def train_into(table: Table, size: str, out: Path, report: Report) -> Origin:
    """Train on a table's earlier days, evaluate on its later ones, and write the model."""
    learn, judge = table.split()
    report(f"training fraud-{size} on {len(learn.fraud):,} transactions")
    model = train(learn, size)
    scores = predict(model, judge.features)
    path = out / "model.onnx"
    write_onnx(model, path)
    few = judge.features[:_COMPARED_ROWS]
    differing = np.abs(run_onnx(path, {"features": few}) - scores[:_COMPARED_ROWS])
    share = float((differing > _TOLERANCE).mean())
    if share > _TOLERANCE:
        raise ArtifactInvalid(
            f"the ONNX graph and LightGBM differ in {share:.1%} of the scores; check the versions "
            "of onnxmltools and lightgbm"
        )
    measured = dict(evaluate(judge, scores))
    quality = {"metric": "average_precision", "value": measured["average_precision"], **measured}
    (out / "quality.json").write_text(json.dumps(quality, indent=1))
    return Origin(
        sources=(),
        measured={
            **measured,
            "rows_learnt": len(learn.fraud),
            "rows_judged": len(judge.fraud),
            "onnx_scores_differing": share,
        },
        built_with=("lightgbm", "onnxmltools", "onnx", "numpy"),
    )
