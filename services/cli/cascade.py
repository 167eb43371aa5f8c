"""``turnout cascade``: choose the confidence under which a route escalates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from routing.evaluation.cascade_threshold import Recorded, ThresholdResult, at, bounded, for_share
from turnout.errors import DataError

app = typer.Typer(add_completion=False, no_args_is_help=True)
_COLUMNS = ("confidence", "cheap", "large")


@app.callback()
def cascade() -> None:
    """Choose the confidence under which a cascade escalates."""


@app.command()
def choose(
    table: Annotated[
        Path, typer.Argument(help="Recorded answers, .jsonl or .parquet: confidence, cheap, large.")
    ],
    max_loss: Annotated[
        float | None,
        typer.Option(help="Quality that may be lost against always asking the large model."),
    ] = None,
    max_escalated: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of answers that may escalate.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Probability that --max-loss does not hold.")] = 0.1,
    held_back: Annotated[
        Path | None, typer.Option(help="Evaluate the threshold on other answers too.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The seed of the order in which answers are tested.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Choose a threshold for the catalog's ``cascade: {threshold: ...}``.

    A row is one request: the cheap model's confidence in its answer, and the quality of its answer
    and of the large model's, from 0 to 1. With --max-loss the bound holds for new requests like
    these with probability 1 - delta; with --max-escalated the quality has no bound.
    """
    if (max_loss is None) == (max_escalated is None):
        raise DataError("give either --max-loss or --max-escalated")
    recorded = read_recorded(table)
    threshold = (
        for_share(recorded, max_escalated or 0.0)
        if max_loss is None
        else bounded(recorded, max_loss, delta, seed)
    )
    outcomes = {str(table): at(recorded, threshold)}
    if held_back is not None:
        outcomes[str(held_back)] = at(read_recorded(held_back), threshold)
    if as_json:
        typer.echo(json.dumps({"threshold": threshold, "on": _as_json(outcomes)}))
        return
    console = Console()
    console.print(f"cascade: {{threshold: {threshold:.4f}}}")
    lines = Table("on", "escalated", "cascade", "cheap alone", "large alone")
    for name, outcome in outcomes.items():
        numbers = (outcome.quality, outcome.cheap, outcome.large)
        lines.add_row(name, f"{outcome.escalated:.1%}", *(f"{value:.3f}" for value in numbers))
    console.print(lines)


def read_recorded(path: Path) -> Recorded:
    """Read recorded answers.

    Raises:
        DataError: the file or a column is missing, or a value is not a number from 0 to 1.
    """
    rows = _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
    missing = [name for name in _COLUMNS if any(name not in row for row in rows)]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; rows have {_COLUMNS}")
    try:
        columns = [np.array([row[name] for row in rows], np.float64) for name in _COLUMNS]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a value is not a number ({error})") from None
    try:
        return Recorded(*columns)
    except DataError as error:
        raise type(error)(f"{path}: {error}") from None


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        try:
            row: object = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not an object")
        rows.append(row)  # pyright: ignore[reportUnknownArgumentType]
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    try:
        return pd.read_parquet(path).to_dict("records")  # type: ignore[return-value]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _as_json(outcomes: dict[str, ThresholdResult]) -> dict[str, Any]:
    return {name: asdict(outcome) for name, outcome in outcomes.items()}
