"""Write a study's report as JSON and as one self-contained HTML page with plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from runners.engines import host
from runners.optimize.candidate import Candidate
from runners.optimize.plots import plots
from runners.optimize.study import Study

JSON, PAGE = "report.json", "report.html"
_PACKAGES = ("onnxruntime", "onnx", "numpy")


def write(outcome: Study, chosen: str | None, out: Path) -> Mapping[str, Any]:
    """Write the report as JSON and as a page into a folder.

    Args:
        outcome: the study.
        chosen: name of the candidate whose file this report travels with; None if none does.
        out: the folder.

    Returns:
        The content of the JSON file.
    """
    report = described(outcome, chosen)
    (out / JSON).write_text(json.dumps(report, indent=1, default=list) + "\n")
    (out / PAGE).write_text(page(report))
    return report


def described(outcome: Study, chosen: str | None) -> dict[str, Any]:
    """Return the report as plain data."""
    artifact = outcome.entry.artifact
    return {
        "model": outcome.model,
        "artifact": artifact.tag if artifact else None,
        "task": outcome.entry.task.value,
        "runner": outcome.entry.runner.model_dump(mode="json"),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": dict(host.described(_PACKAGES)),
        "gate": outcome.gate.model_dump(mode="json"),
        "calibrated_on": dict(outcome.calibrated_on),
        "judged_on": dict(outcome.judged_on),
        "chosen": chosen,
        "best": outcome.best.name if outcome.best else None,
        "candidates": [_candidate(candidate) for candidate in outcome.candidates],
    }


def page(report: Mapping[str, Any]) -> str:
    """Return the report as HTML; it fetches nothing from elsewhere."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(["html"])
    )
    return templates.get_template("report.html").render(report=report, plots=plots(report))


def _candidate(candidate: Candidate) -> dict[str, Any]:
    measured = candidate.measured
    return {
        "name": candidate.name,
        "may_serve": not candidate.why_not,
        "why_not": candidate.why_not,
        "stages": [stage.described() for stage in candidate.stages],
        "judgement": asdict(candidate.judgement) if candidate.judgement else None,
        "measured": asdict(measured) if measured else None,
        "checks": [asdict(check) for check in candidate.checks],
    }
