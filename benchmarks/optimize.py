"""Measure the gains and costs of optimising the default models: every chain through its gate.

    python -m benchmarks.optimize --images DIR --json benchmarks/results/optimize.json

``DIR`` holds labelled pictures (``labels.json``): one half calibrates, the other judges. Without
it the image models are judged on the photographs of two packages, which are too few to let
anything serve. Speed is beside the reference in the same process, run by run in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.provenance import save
from services.artifacts.optimize_model import optimize
from turnout.catalog import load
from turnout.types import Task

_CATALOG = Path(__file__).parents[1] / "catalog" / "default.yaml"
_MODELS = ("efficientnet-lite0", "efficientnet-lite2", "all-minilm-l6-v2", "fraud-large")


def main() -> None:
    """Optimise, print the table, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="labelled pictures")
    parser.add_argument("--models", nargs="*", default=_MODELS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    catalog = load(_CATALOG)
    rows: list[dict[str, Any]] = []
    judged: dict[str, Any] = {}
    print(_HEAD)
    for name in arguments.models:
        pictures = arguments.images if catalog.models[name].task is Task.IMAGE else None
        said = optimize(catalog, name, lambda line: None, pictures).report
        judged[name] = {"judged_on": said["judged_on"], "calibrated_on": said["calibrated_on"]}
        for one in said["candidates"]:
            rows.append(_row(name, one))
            print(_line(rows[-1]), flush=True)
    save(arguments.json, {"models": judged, "rows": rows})


_HEAD = (
    "| model | passes | loss [95 % interval] | agreement | ms, 1 row (before) | x 1 row | x 8 rows "
    "| MB | may serve |\n|---|---|---|---|---|---|---|---|---|"
)


def _row(model: str, one: Mapping[str, Any]) -> dict[str, Any]:
    judgement, measured = one["judgement"], one["measured"]
    row = {"model": model, "passes": one["name"], "may_serve": one["may_serve"]}
    row["why_not"] = one["why_not"]
    if judgement is None or measured is None:
        return row
    return row | {
        "metric": judgement["metric"],
        "loss": judgement["loss"],
        "reference": judgement["reference"],
        "candidate": judgement["candidate"],
        "agreement": judgement["agreement"],
        "latency": measured["latency"],
        "start_ms": [measured["reference_start_ms"], measured["start_ms"]],
        "memory_mb": [
            round(measured[key] / 1e6, 1) for key in ("reference_memory_bytes", "memory_bytes")
        ],
        "file_mb": [
            round(measured[key] / 1e6, 1) for key in ("reference_file_bytes", "file_bytes")
        ],
    }


def _line(row: Mapping[str, Any]) -> str:
    if "loss" not in row:
        return f"| {row['model']} | {row['passes']} | {'; '.join(row['why_not'])} |"
    loss, (one, eight) = row["loss"], list(row["latency"].values())
    cells = (
        row["model"],
        row["passes"],
        f"{loss['value']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}]",
        f"{row['agreement']['value']:.4f}",
        f"{one['candidate_ms']:.3g} ({one['reference_ms']:.3g})",
        f"{one['speedup']:.2f}",
        f"{eight['speedup']:.2f}",
        f"{row['file_mb'][1]:g} ({row['file_mb'][0]:g})",
        "yes" if row["may_serve"] else "no",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
