"""The pictures of a report, as SVG text to be put into a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GOOD, _BAD, _PLAIN = "#2a7f62", "#b5413b", "#7a8794"
_GREENS = ("#1f5f4a", "#3f9d7c", "#8ac9b1")
_REDS = ("#8c2f2a", "#c9605a", "#e0a19d")


def plots(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and SVG of every plot; none when nothing was measured."""
    judged = [one for one in said["candidates"] if one["judgement"] and one["measured"]]
    if not judged:
        return []
    found = [
        ("Loss beside what the gate tolerates", _svg(_loss, judged, said["gate"])),
        ("Latency by batch", _svg(_latency, judged, said["gate"])),
        ("Memory, start and file, by the reference's", _svg(_costs, judged, said["gate"])),
    ]
    mixed = [one for one in judged if _sensitivity(one)]
    if mixed:
        found.append(("What quantising one node alone changes", _svg(_nodes, mixed, {})))
    return found


def _loss(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Each candidate's loss with its interval, and the two bounds."""
    for row, one in enumerate(judged):
        loss = one["judgement"]["loss"]
        colour = _GOOD if one["may_serve"] else _BAD
        axes.plot([loss["low"], loss["high"]], [row, row], color=colour, lw=3, alpha=0.5)
        axes.plot([loss["value"]], [row], "o", color=colour)
    axes.axvline(gate["max_loss"], color=_PLAIN, ls="--", label="most for the estimate")
    axes.axvline(gate["max_loss_at_worst"], color=_PLAIN, ls=":", label="most for the bad end")
    axes.set_yticks(range(len(judged)), [one["name"] for one in judged])
    axes.set_ylim(len(judged) - 0.5, -0.5)
    axes.set_xlabel(f"loss of {judged[0]['judgement']['metric']}")
    axes.legend(frameon=False, fontsize=8)


def _latency(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Milliseconds a row, reference and candidates, a group for each batch; all timed in turn."""
    del gate
    latencies = [one["measured"]["latency"] for one in judged]
    batches = list(latencies[0])
    series = [("reference", [latencies[0][b]["reference_ms"] / int(b) for b in batches])] + [
        (one["name"], [latency[b]["candidate_ms"] / int(b) for b in batches])
        for one, latency in zip(judged, latencies, strict=True)
    ]
    labels = [f"{b} row{'s' if int(b) > 1 else ''} a run" for b in batches]
    _bars(axes, series, labels, _colours(judged, reference=True), "{:.3g}")
    axes.set_ylabel("ms a row (median)")


def _costs(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Ratios to the reference; under the line is better."""
    del gate
    kinds = (("memory", "memory_bytes"), ("start", "start_ms"), ("file", "file_bytes"))
    series = [
        (
            one["name"],
            [one["measured"][k] / max(one["measured"][f"reference_{k}"], 1e-9) for _, k in kinds],
        )
        for one in judged
    ]
    labels = [label for label, _ in kinds]
    _bars(axes, series, labels, _colours(judged, reference=False), "{:.2f}")
    axes.axhline(1.0, color=_PLAIN, ls="--", lw=1)
    axes.set_ylabel("by the reference's")


def _bars(
    axes: Axes,
    series: Sequence[tuple[str, Sequence[float]]],
    labels: Sequence[str],
    colours: Sequence[str],
    shown: str,
) -> None:
    width = 0.8 / len(series)
    for index, (name, heights) in enumerate(series):
        at = [group + index * width for group in range(len(labels))]
        bars = axes.bar(at, heights, width * 0.9, color=colours[index], label=name)
        axes.bar_label(bars, [shown.format(height) for height in heights], fontsize=8)
    middle = width * (len(series) - 1) / 2
    axes.set_xticks([group + middle for group in range(len(labels))], labels)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _colours(judged: Sequence[Any], *, reference: bool) -> list[str]:
    """Green for what may serve, red for what may not, in shades; grey for the reference."""
    shades = {True: iter(_GREENS * 3), False: iter(_REDS * 3)}
    own = [next(shades[one["may_serve"]]) for one in judged]
    return [_PLAIN, *own] if reference else own


def _nodes(axes: Axes, judged: Sequence[Any], gate: Mapping[str, Any]) -> None:
    """Sensitivity of the worst nodes; those left in float32 in another colour."""
    del gate
    sensitivity, kept = _sensitivity(judged[0]), _kept(judged[0])
    names = list(sensitivity)
    colours = [_BAD if name in kept else _PLAIN for name in names]
    axes.barh(range(len(names)), list(sensitivity.values()), color=colours)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("relative error of the output (red: left in float32)")


def _sensitivity(one: Mapping[str, Any]) -> Mapping[str, float]:
    return one["stages"][-1]["measured"].get("sensitivity", {}) if one["stages"] else {}


def _kept(one: Mapping[str, Any]) -> set[str]:
    return set(one["stages"][-1]["measured"].get("kept_in_float32", ()))


def _svg(draw: Any, judged: Sequence[Any], gate: Mapping[str, Any]) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = len(_sensitivity(judged[0])) if draw is _nodes else len(judged)
    figure: Figure = Figure(figsize=(7.2, max(2.6, 1.2 + 0.28 * rows)), layout="constrained")
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
