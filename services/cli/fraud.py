"""``turnout fraud``: simulate transactions, retrain the models, evaluate them on a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from runners.recipes.fraud.evaluation import evaluate as judge
from runners.recipes.fraud.features import WARM_UP_DAYS
from runners.recipes.fraud.simulator import World
from runners.recipes.fraud.table import read, write
from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Origin, Source
from runners.recipes.source import sha256_of
from services.artifacts import build
from turnout.errors import DataError

app = typer.Typer(help="The fraud models: simulate, retrain, evaluate.", no_args_is_help=True)

SIZES = ("small", "large")
_WORLD = World()
Parquet = Annotated[Path, typer.Option("--from", help="Transactions with features and label.")]


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    days: Annotated[int, typer.Option(min=1, help="The number of simulated days.")] = _WORLD.days,
    customers: Annotated[int, typer.Option(min=10)] = _WORLD.customers,
    terminals: Annotated[int, typer.Option(min=10)] = _WORLD.terminals,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world.")] = _WORLD.seed,
) -> None:
    """Write simulated transactions with their 15 features and fraud label."""
    rows = write(World(customers, terminals, days=days, seed=seed), out)
    typer.echo(f"{rows:,} transactions in {out}")


@app.command()
def train(
    source: Parquet,
    out: Annotated[Path | None, typer.Option(help="Folder to write the models into.")] = None,
    store: Annotated[bool, typer.Option("--store", help="Put them into the model store.")] = False,
    size: Annotated[str, typer.Option(help="small, large or both.")] = "both",
) -> None:
    """Train on the earlier days of a parquet file and evaluate on its later ones.

    With ``--store`` the catalog's ``recipe: fraud`` resolves to the new models until they are
    deleted (``bentoml models delete``).
    """
    from runners.recipes.fraud.recipe import train_into  # LightGBM, which --help does not need

    if (out is None) == (not store):
        raise DataError("give --out DIR or --store for the trained models")
    if size not in (*SIZES, "both"):
        raise DataError(f"--size {size!r} is unknown; give small, large or both")
    table = read(source)
    read_from = Source(f"file:{source.name}", sha256_of(source), "as the file's owner says")
    measured: dict[str, Mapping[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in SIZES if size == "both" else (size,):
            folder = (out or Path(scratch)) / f"fraud-{name}"
            folder.mkdir(parents=True, exist_ok=True)
            origin = train_into(table, name, folder, _progress)
            measured[f"fraud-{name}"] = origin.measured
            if store:
                stored_origin = Origin((read_from,), origin.measured, origin.built_with)
                build.add(f"fraud-{name}", "fraud", {"size": name}, folder, stored_origin)
    typer.echo(json.dumps(measured, indent=1))


@app.command()
def evaluate(
    source: Parquet,
    model: Annotated[Path, typer.Option(help="Folder that holds model.onnx.")],
) -> None:
    """Evaluate a built model on the transactions of a parquet file, after the warm-up days."""
    table = read(source)
    table = table.rows(table.day >= WARM_UP_DAYS)
    scores = run_onnx(model / "model.onnx", {"features": table.features})
    typer.echo(json.dumps({"rows": len(table.fraud), **judge(table, scores)}, indent=1))


def _progress(line: str) -> None:
    typer.echo(line, err=True)
