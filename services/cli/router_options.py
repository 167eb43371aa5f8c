"""What the commands of ``turnout router`` share: options, lists of names, progress, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from turnout.errors import DataError

OutcomesOption = Annotated[
    list[Path], typer.Option("--outcomes", help="Outcome tables, .parquet or .jsonl.")
]
TableOption = Annotated[Path, typer.Option("--outcomes", help="Outcome table.")]
RouterOption = Annotated[Path, typer.Option("--router", help="Folder of a trained router.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WeakOption = Annotated[str, typer.Option("--weak", help="The cheaper model.")]
CascadeOption = Annotated[
    bool,
    typer.Option("--cascade", help="As a cascade: with the weak model's confidence in its answer."),
]
OnlyNewOption = Annotated[
    bool,
    typer.Option(
        "--only-new", help="Only questions it was not trained on, nor its pool was asked."
    ),
]
StrongOption = Annotated[str, typer.Option("--strong", help="The better model.")]


def names_of(models: str) -> list[str]:
    """The names of a list separated by commas, each once.

    Raises:
        DataError: one stands there twice.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"--models: {twice[0]!r} stands there twice")
    return names


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    typer.echo(json.dumps(value))


@contextmanager
def progress() -> Generator[Callable[[str], None]]:
    """A spinner on stderr that says what is being done; plain when stderr is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)
        yield lambda text: shown.update(task, description=text)
