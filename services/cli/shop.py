"""``turnout shop``: evaluate search and recommendations against simple baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from services.artifacts.store import resolve
from turnout.catalog import Catalog, load
from turnout.errors import DataError
from turnout.settings import PROJECT

app = typer.Typer(help="The shop's models: evaluate them.", no_args_is_help=True)

_CATALOG = PROJECT / "catalog" / "ecommerce.yaml"


@app.callback()
def shop() -> None:
    """The shop's models (see docs/shop.md)."""


@app.command()
def evaluate(
    catalog: Annotated[Path, typer.Option(help="The catalog of the models.")] = _CATALOG,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Evaluate the built models on held-out queries and purchases.

    Search: nDCG@10 of embed, retrieve and rank, beside that of the index alone, of popularity and
    of chance. Recommendations: recall@20 of each market's retrieval, and nDCG@10 of the reranked
    items that are new to the customer.
    """
    from runners.recipes.shop.evaluation import judge  # imports torch, which --help does not need

    fleet = load(catalog)
    tables = judge(_folders(fleet), lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(json.dumps(tables, indent=1))
        return
    for title, rows in tables.items():
        _show(title, rows)


def _folders(fleet: Catalog) -> dict[str, Path]:
    folders = {
        name: resolve(model.artifact)
        for name, model in fleet.models.items()
        if model.artifact is not None and (model.artifact.recipe or "").startswith("shop-")
    }
    if not folders:
        raise DataError(
            "this catalog has no models of the shop; give --catalog catalog/ecommerce.yaml"
        )
    return folders


def _show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    table = Table(title, *columns, box=None)
    for name, values in rows.items():
        table.add_row(name, *(f"{values[column]:.3f}" for column in columns))
    Console().print(table, "")
