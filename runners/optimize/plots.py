"""Draw the plots of a report as SVG text to embed in a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_GOOD, _BAD, _PLAIN = "#2a7f62", "#b5413b", "#7a8794"
_SERIES = ("#2b5f8a", "#7fa8c9", "#c3d5e3")


def plots(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the title and the SVG of every plot; an empty list when nothing was measured."""
    judged = [
        candidate
        for candidate in report["candidates"]
        if candidate["judgement"] and candidate["measured"]
    ]
    if not judged:
        return []
    sections = [
        ("Loss beside what the gate tolerates", _svg(_loss, judged, report["gate"])),
        ("Latency by batch", _svg(_latency, judged, report["gate"])),
        ("Memory, start and file, by the reference's", _svg(_costs, judged, report["gate"])),
    ]
    mixed = [candidate for candidate in judged if _sensitivity(candidate)]
    if mixed:
        sections.append(("What quantising one node alone changes", _svg(_nodes, mixed, {})))
    return sections


def _loss(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Draw each candidate's loss with its interval, and the two bounds."""
    for row, candidate in enumerate(judged):
        loss = candidate["judgement"]["loss"]
        colour = _GOOD if candidate["may_serve"] else _BAD
        axes.plot([loss["low"], loss["high"]], [row, row], color=colour, lw=3, alpha=0.5)
        axes.plot([loss["value"]], [row], "o", color=colour)
    axes.axvline(gate["max_loss"], color=_PLAIN, ls="--", label="most for the estimate")
    axes.axvline(gate["max_loss_at_worst"], color=_PLAIN, ls=":", label="most for the bad end")
    axes.set_yticks(range(len(judged)), [candidate["name"] for candidate in judged])
    axes.set_ylim(len(judged) - 0.5, -0.5)
    _colour(axes, judged)
    axes.set_xlabel(f"loss of {judged[0]['judgement']['metric']}")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _latency(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Draw the milliseconds per row, the reference first, one bar for each batch size."""
    latencies = [candidate["measured"]["latency"] for candidate in judged]
    series = {
        f"{batch} row{'s' if int(batch) > 1 else ''} a run": [
            latencies[0][batch]["reference_ms"] / int(batch),
            *(latency[batch]["candidate_ms"] / int(batch) for latency in latencies),
        ]
        for batch in latencies[0]
    }
    _bars(axes, ["reference", *(candidate["name"] for candidate in judged)], series, "{:.3g}")
    _colour(axes, [None, *judged])
    axes.set_xlabel("ms a row (median)")


def _costs(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Draw the costs as ratios to the reference; left of the line is better."""
    kinds = {"memory": "memory_bytes", "start": "start_ms", "file": "file_bytes"}
    series = {
        label: [
            candidate["measured"][key] / max(candidate["measured"][f"reference_{key}"], 1e-9)
            for candidate in judged
        ]
        for label, key in kinds.items()
    }
    _bars(axes, [candidate["name"] for candidate in judged], series, "{:.2f}")
    _colour(axes, judged)
    axes.axvline(1.0, color=_PLAIN, ls="--", lw=1)
    axes.set_xlabel("by the reference's")


def _bars(
    axes: Axes, rows: Sequence[str], series: Mapping[str, Sequence[float]], number_format: str
) -> None:
    """Draw horizontal bars: one group for each row, with one bar for each series."""
    height = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        at = [row + (index - (len(series) - 1) / 2) * height for row in range(len(rows))]
        bars = axes.barh(at, values, height * 0.9, color=_SERIES[index], label=name)
        axes.bar_label(
            bars, [number_format.format(value) for value in values], fontsize=8, padding=2
        )
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _colour(axes: Axes, judged: Sequence[Any]) -> None:
    """Colour a candidate's name green when it may serve, red when not."""
    for label, candidate in zip(axes.get_yticklabels(), judged, strict=True):
        if candidate is not None:
            label.set_color(_GOOD if candidate["may_serve"] else _BAD)


def _nodes(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Draw the most sensitive nodes; those left in float32 in another colour."""
    sensitivity, in_float32 = _sensitivity(judged[0]), _in_float32(judged[0])
    names = list(sensitivity)
    colours = [_BAD if name in in_float32 else _PLAIN for name in names]
    axes.barh(range(len(names)), list(sensitivity.values()), color=colours)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("relative error of the output (red: left in float32)")


def _sensitivity(candidate: Mapping[str, Any]) -> Mapping[str, float]:
    return candidate["stages"][-1]["measured"].get("sensitivity", {}) if candidate["stages"] else {}


def _in_float32(candidate: Mapping[str, Any]) -> set[str]:
    return set(candidate["stages"][-1]["measured"].get("kept_in_float32", ()))


def _svg(draw: Any, judged: Sequence[Any], gate: Mapping[str, Any]) -> str:
    rows = len(_sensitivity(judged[0])) if draw is _nodes else 1.8 * (len(judged) + 1)
    figure: Figure = Figure(figsize=(8.4, max(2.4, 1.0 + 0.26 * rows)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, judged, gate)
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    return text[text.index("<svg") :]
