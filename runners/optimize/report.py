"""A study's report: JSON for machines, one self-contained page with plots for people."""

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


def write(found: Study, chosen: str | None, out: Path) -> Mapping[str, Any]:
    """Write both into a folder.

    Args:
        found: the study.
        chosen: name of the candidate whose file this report travels with; None if none does.
        out: the folder.

    Returns:
        What was written as JSON.
    """
    said = described(found, chosen)
    (out / JSON).write_text(json.dumps(said, indent=1, default=list) + "\n")
    (out / PAGE).write_text(page(said))
    return said


def described(found: Study, chosen: str | None) -> dict[str, Any]:
    """The report as plain data."""
    artifact = found.entry.artifact
    return {
        "model": found.model,
        "artifact": artifact.tag if artifact else None,
        "task": found.entry.task.value,
        "runner": found.entry.runner.model_dump(mode="json"),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": dict(host.described(_PACKAGES)),
        "gate": found.gate.model_dump(mode="json"),
        "calibrated_on": dict(found.calibrated_on),
        "judged_on": dict(found.judged_on),
        "chosen": chosen,
        "best": found.best.name if found.best else None,
        "candidates": [_candidate(one) for one in found.candidates],
    }


def page(said: Mapping[str, Any]) -> str:
    """The report as HTML; nothing in it is fetched from anywhere."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(["html"])
    )
    return templates.get_template("report.html").render(report=said, plots=plots(said))


def _candidate(one: Candidate) -> dict[str, Any]:
    measured = one.measured
    return {
        "name": one.name,
        "may_serve": not one.why_not,
        "why_not": one.why_not,
        "stages": [stage.described() for stage in one.stages],
        "judgement": asdict(one.judgement) if one.judgement else None,
        "measured": asdict(measured) if measured else None,
        "checks": [asdict(check) for check in one.checks],
    }
