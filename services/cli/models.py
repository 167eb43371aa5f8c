"""``turnout models``: build, list, verify and profile the files of a catalog's models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from services.artifacts import store
from services.artifacts.catalog_build import build_missing
from services.artifacts.mapped_weights import map_graphs
from services.cli import gateway_client, model_operations
from services.fleet.measure_profiles import measure_profiles
from turnout.catalog import load
from turnout.errors import ArtifactInvalid
from turnout.settings import PROJECT

app = typer.Typer(help="The files of the catalog's models.", no_args_is_help=True)
app.add_typer(model_operations.app)

_DEFAULT = PROJECT / "catalog" / "default.yaml"
_UNBOUNDED = 10_000
CatalogFile = Annotated[Path, typer.Option("--catalog", help="The catalog to read.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON on standard output.")]


@app.command()
def build(
    catalog: CatalogFile = _DEFAULT,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this model or tag; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build every model the store lacks; with a memory budget, also save graphs to map."""
    progress = Console(stderr=True, highlight=False)

    def report(line: str) -> None:
        progress.print(line, soft_wrap=True, markup=False)

    fleet = load(catalog)
    folders = build_missing(fleet, report, only)
    map_graphs(fleet, report)
    if as_json:
        typer.echo(json.dumps({tag: str(path) for tag, path in folders.items()}, indent=1))
    else:
        progress.print(f"{len(folders)} models ready in {store.home() / 'models'}")


@app.command("list")
def list_models(
    url: Annotated[
        str | None,
        typer.Option(help="A running gateway: list its models and what they run on instead."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models of the store, or of a running gateway."""
    if url is not None:
        _list_running(gateway_client.models(url), as_json)
        return
    rows = [_row(stored) for stored in store.stored()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    names = Column("model", overflow="fold", min_width=24)
    table = Table(names, "MB", "origin", "licence", "sha256 of its files", "gate", box=None)
    for row in rows:
        table.add_row(
            row["tag"],
            f"{row['size_bytes'] / 1e6:.1f}",
            "\n".join(row["origin"]) or "built here",
            ", ".join(row["license"]) or "Apache-2.0",
            row["sha256"][:16],
            {None: "", True: "passed", False: "refused"}[row["gate"]],
        )
    _print(table)


@app.command()
def verify(as_json: Json = False) -> None:
    """Check every file in the store against its recorded hash."""
    problems: dict[str, str | None] = {}
    for stored in store.stored():
        try:
            store.verify(stored.path)
            problems[stored.tag] = None
        except ArtifactInvalid as error:
            problems[stored.tag] = str(error)
    if as_json:
        typer.echo(json.dumps(problems, indent=1))
    else:
        for tag, problem in problems.items():
            typer.echo(f"{tag}: {problem or 'ok'}")
    if any(problems.values()):
        raise typer.Exit(1)


@app.command()
def profile(
    model: Annotated[str | None, typer.Argument(help="Only this model of the catalog.")] = None,
    catalog: CatalogFile = _DEFAULT,
    as_json: Json = False,
) -> None:
    """Measure each model's batching curve on this host; the next start begins with it."""
    progress = Console(stderr=True, highlight=False)

    def report(line: str) -> None:
        progress.print(line, soft_wrap=True, markup=False)

    curves = {
        name: asdict(curve)
        for name, curve in measure_profiles(load(catalog), report, model).items()
    }
    if as_json:
        typer.echo(json.dumps(curves, indent=1))
    else:
        _show_curves(curves)


def _show_curves(curves: dict[str, Any]) -> None:
    table = Table("model", "rows (tokens)", "ms", "p95", "a second", "MB in all", box=None)
    for name, curve in curves.items():
        for index, point in enumerate(curve["points"]):
            table.add_row(
                "" if index else name,
                str(point["units"]),
                f"{point['median_ms']:.4g}",
                f"{point['p95_ms']:.4g}",
                f"{point['units'] * 1e3 / max(point['median_ms'], 1e-6):.0f}",
                f"{point['memory_bytes'] / 1e6:.0f}",
            )
        for count, rate in curve["tokens_per_s"].items():
            table.add_row("", f"{count} writing", "", "", f"{rate:.0f}", "")
    _print(table)


def _list_running(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    versions = any("version" in row for row in rows)
    heads = ("engine", "requested", "runs on", "precision", *(["answers"] if versions else ()))
    columns = [Column(head, overflow="fold") for head in ("model", *heads, "why")]
    table = Table(*columns, box=None)
    for row in rows:
        names = ("engine", "requested", "provider", "precision")
        why = row.get("reason") or (row["state"] if row["state"] != "ready" else "")
        cells = [str(row.get(name, "")) for name in names] + ([_alias(row)] if versions else [])
        table.add_row(row["model"], *cells, "; ".join(filter(None, (why, _verdict(row)))))
    _print(table)


def _print(table: Table) -> None:
    """Print a table; without a terminal it is as wide as its content."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNBOUNDED)
    console.print(table)


def _alias(row: dict[str, Any]) -> str:
    """Return a version's alias with its share of requests: ``production 0.95``."""
    return f"{row['alias']} {row['share']:.3g}" if row.get("alias") else ""


def _verdict(row: dict[str, Any]) -> str:
    return f"{row['verdict']}: {row['verdict_why']}" if "verdict" in row else ""


def _row(stored: store.Stored) -> dict[str, Any]:
    manifest = stored.manifest
    return {
        "tag": stored.tag,
        "size_bytes": stored.size_bytes,
        "origin": sorted({source["url"].partition("#")[0] for source in manifest["origin"]}),
        "license": sorted({source["license"] for source in manifest["origin"]}),
        "sha256": store.digest(manifest),
        "measured": manifest["measured"],
        "gate": manifest["gate"]["passed"] if "gate" in manifest else None,
    }
