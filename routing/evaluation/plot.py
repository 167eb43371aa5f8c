"""Plots of a report: a PNG, and one self-contained HTML file."""

# pyright: basic

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Final

from routing.evaluation.report import PairReport

_STYLE: Final = {"router": "-", "length": "--", "random": ":", "oracle": "-."}


def draw(report: PairReport) -> bytes:
    """Return a PNG: quality over the share of strong calls, and both models' reliability."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, curve in report.curves.items():
        label = f"{name}, APGR {report.apgr[name].value:.3f}"
        left.plot(curve.share * 100, curve.quality, _STYLE.get(name, "--"), marker=".", label=label)
    left.set_xlabel(f"answered by {report.strong}, % of questions")
    left.set_ylabel("mean score")
    left.legend()
    right.plot([0, 1], [0, 1], ":", color="grey")
    for name, reliability in report.reliability.items():
        label = f"{name}, error {reliability.ece:.3f}"
        right.plot(reliability.predicted, reliability.observed, marker="o", label=label)
    right.set_xlabel("predicted P(good)")
    right.set_ylabel("observed share of good answers")
    right.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def write_plots(report: PairReport, stem: Path) -> tuple[Path, Path]:
    """Write STEM.png and STEM.html; returns both paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    picture = draw(report)
    png, page = stem.with_suffix(".png"), stem.with_suffix(".html")
    png.write_bytes(picture)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{interval}</td>"
        f"<td>{report.cpt50[name]:.1%}</td><td>{report.cpt80[name]:.1%}</td></tr>"
        for name, interval in report.apgr.items()
    )
    title = html.escape(f"{report.weak} → {report.strong}, {report.questions} questions")
    page.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
        "<style>body{font:16px system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "img{max-width:100%}td,th{padding:.2rem 1rem;text-align:left}</style>"
        f"<h1>{title}</h1><img alt='quality over share of strong calls' "
        f"src='data:image/png;base64,{base64.b64encode(picture).decode()}'>"
        "<table><tr><th>method</th><th>APGR [95 %]</th><th>CPT 50 %</th><th>CPT 80 %</th></tr>"
        f"{rows}</table></html>\n",
        encoding="utf-8",
    )
    return png, page
