"""``turnout catalog``: check a catalog, print its JSON Schema, reload a gateway's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from turnout.catalog.reading import json_schema, load
from turnout.errors import CatalogInvalid

app = typer.Typer(no_args_is_help=True, help="Check catalogs and export their schema.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def check(file: Path, as_json: AsJson = False) -> None:
    """Check a catalog; print each problem as FILE:LINE: KEY: WHAT and exit 1 if there is one."""
    try:
        catalog = load(file)
    except CatalogInvalid as error:
        if as_json:
            typer.echo(json.dumps({"ok": False, "problems": error.problems}))
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    counts = {
        "models": len(catalog.models),
        "routes": len(catalog.routes),
        "pipelines": len(catalog.pipelines),
        "classes": len(catalog.classes),
    }
    if as_json:
        typer.echo(json.dumps({"ok": True, "problems": [], **counts}))
    else:
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        typer.echo(f"{file}: fine ({listed})")


@app.command()
def schema(out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None) -> None:
    """Print the catalog's JSON Schema, for editors."""
    if out is None:
        typer.echo(json_schema(), nl=False)
    else:
        out.write_text(json_schema(), encoding="utf-8")
        typer.echo(f"wrote {out}")


@app.command()
def reload(
    url: Annotated[
        str, typer.Option(help="The running gateway.", envvar="TURNOUT_URL")
    ] = "http://127.0.0.1:3000",
) -> None:
    """Make a running gateway read its catalog's file again.

    A catalog with problems is refused with a list of them, and the old one stays.
    """
    from services.cli.gateway_client import operate  # the other commands need no HTTP client

    changes = operate(url, "/v1/catalog/reload")
    for kind in ("added", "changed", "removed"):
        typer.echo(f"{kind}: {', '.join(changes[kind]) or 'none'}")
