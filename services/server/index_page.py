"""``GET /``: the served routes and models, on one page without scripts or foreign content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version

from services.dataplane.data_plane import DataPlane
from services.fleet.status import status

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .4rem}
p{margin:.4rem 0}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884}
th{font-weight:600}code{font:13px ui-monospace,monospace}
.ready::before{content:"\\25CF ";color:#1a7f37}.waits::before{content:"\\25CF ";color:#9a6700}
.broken::before{content:"\\25CF ";color:#cf222e}.few{opacity:.65;font-size:.9em}
"""
_PLACES = (
    ("/v1/models", "routes and models, as OpenAI's clients list them"),
    ("/v2", "the server, as Open Inference Protocol clients see it"),
    ("/readyz", "200 once the most urgent models are warm"),
    ("/metrics", "Prometheus metrics"),
    ("/v1/router", "the trained routers"),
    ("/docs.json", "OpenAPI of BentoML's own endpoints"),
)


def index_page(plane: DataPlane) -> bytes:
    """Return the page as HTML."""
    catalog = plane.catalog
    routes = [
        (
            f"<code>{escape(name)}</code>",
            escape(route.task.value),
            escape(", ".join(route.candidates)),
            escape(route.policy_for(route.latency_class)),
            escape(route.latency_class),
        )
        for name, route in catalog.routes.items()
    ]
    classes = [
        (
            f"<code>{escape(name)}</code>",
            f"{latency_class.deadline_ms:g} ms",
            f"{latency_class.percentile:.0%}",
            escape(latency_class.infeasible),
        )
        for name, latency_class in catalog.classes.items()
    ]
    parts = [
        f"<h1>Turnout</h1><p class=few>{escape(version('turnout'))}</p>",
        "<p>Each request goes to the cheapest model that will answer it well enough, in time. "
        "Name a route (or <code>auto</code>) and, if you like, a latency class; a model's own name "
        "asks that model.</p>",
        _table("Routes", ("route", "task", "candidates", "policy", "class"), routes),
        _table("Latency classes", ("class", "deadline", "held by", "if it can't be"), classes),
        _table("Models", ("model", "task", "state", "runs on"), _models(plane)),
    ]
    if catalog.pipelines:
        rows = [
            (f"<code>POST /v1/pipelines/{escape(name)}</code>", escape(", ".join(pipeline.stages)))
            for name, pipeline in catalog.pipelines.items()
        ]
        parts.append(_table("Pipelines", ("pipeline", "stages"), rows))
    links = [(f'<a href="{path}">{path}</a>', escape(text)) for path, text in _PLACES]
    links.append((
        "<code>/v1/decisions/ID</code>",
        "why a request went where it did; the id is in each answer's "
        "<code>x-turnout-decision</code> header",
    ))  # fmt: skip
    parts.append(_table("Places", ("path", "what"), links))
    parts.append("<p class=few>How all of this works: README.md and docs/ of the project.</p>")
    head = f"<meta charset=utf-8><title>Turnout</title><style>{_STYLE}</style>"
    view = "<meta name=viewport content='width=device-width'>"
    return f"<!doctype html><html lang=en>{head}{view}{''.join(parts)}</html>".encode()


def _models(plane: DataPlane) -> Iterable[Sequence[str]]:
    for name, model in plane.catalog.models.items():
        model_status = status(plane.fleet, name)
        kind = {"loading": "waits", "cold": "waits"}.get(model_status.state, model_status.state)
        label = "loads on demand" if model_status.state == "cold" else model_status.shown
        runs = " ".join(
            str(model_status.details[key])
            for key in ("engine", "provider", "precision")
            if key in model_status.details
        )
        yield (
            f"<code>{escape(name)}</code>",
            escape(model.task.value),
            f"<span class={kind}>{escape(label)}</span>",
            escape(runs or f"{model.runner.engine} ({model.placement})"),
        )


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are HTML already."""
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
