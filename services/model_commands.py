"""``turnout models``: build, list and check the files of a catalog's models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services import store
from turnout.catalog import load
from turnout.errors import ArtifactInvalid

app = typer.Typer(help="The files of the catalog's models.", no_args_is_help=True)

_DEFAULT = Path(__file__).parents[1] / "catalog" / "default.yaml"
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
    """Build every model the store lacks."""
    progress = Console(stderr=True, highlight=False)
    folders = store.ensure(
        load(catalog), lambda line: progress.print(line, soft_wrap=True, markup=False), only
    )
    if as_json:
        typer.echo(json.dumps({tag: str(path) for tag, path in folders.items()}, indent=1))
    else:
        progress.print(f"{len(folders)} models ready in {store.home() / 'models'}")


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List what the store holds."""
    rows = [_row(stored) for stored in store.stored()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table("model", "MB", "origin", "licence", "sha256 of its files", box=None)
    for row in rows:
        table.add_row(
            row["tag"],
            f"{row['size_bytes'] / 1e6:.1f}",
            "\n".join(row["origin"]) or "made here",
            ", ".join(row["license"]) or "Apache-2.0",
            row["sha256"][:16],
        )
    Console().print(table)


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


def _row(stored: store.Stored) -> dict[str, Any]:
    manifest = stored.manifest
    return {
        "tag": stored.tag,
        "size_bytes": stored.size_bytes,
        "origin": sorted({source["url"].partition("#")[0] for source in manifest["origin"]}),
        "license": sorted({source["license"] for source in manifest["origin"]}),
        "sha256": store.digest(manifest),
        "measured": manifest["measured"],
    }
