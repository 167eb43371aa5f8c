"""Recipe ``shop-risk``: predict returns of orders or churn of customers, by trees."""

from __future__ import annotations

import json
from pathlib import Path

from sklearn.metrics import roc_auc_score

from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.customers import churn, returns
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training.trees import train_classifier, write_trees

SIZES = {"small": (20, 8), "large": (120, 15)}
"""The number of trees, and the leaves of each."""

_LEARNT, _JUDGED = 40_000, 20_000
_OF = {"returns": returns, "churn": churn}


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: ``of``, returns or churn; ``size``, small or large.
        out: the artefact's folder.
        report: called with one line of progress at a time.
    """
    values = chosen("shop-risk", options, {"of": tuple(_OF), "size": tuple(SIZES)})
    report(f"training the {values['size']} model of {values['of']}")
    rows = _OF[values["of"]](_LEARNT, 5)
    model = train_classifier(rows.features, rows.happened, *SIZES[values["size"]])
    path = out / "model.onnx"
    write_trees(model, len(rows.columns), "probability", path)
    (out / "task.json").write_text(json.dumps({"columns": rows.columns}))
    judged = _OF[values["of"]](_JUDGED, 6)
    scores = run_onnx(path, {"features": judged.features})
    quality = round(float(roc_auc_score(judged.happened, scores)), 4)
    measured = {"metric": "roc_auc", "quality": quality}
    return Origin((), measured, ("lightgbm", "onnxmltools", "onnx", "numpy"))
