"""Options, name lists, progress and JSON output that the ``turnout router`` commands share."""

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
        "--only-new", help="Only questions that neither the router nor its pool has seen."
    ),
]
StrongOption = Annotated[str, typer.Option("--strong", help="The better model.")]


def names_of(models: str) -> list[str]:
    """Return the names of a comma-separated list.

    Raises:
        DataError: a name is listed twice.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise DataError(f"--models: {repeated[0]!r} is listed twice")
    return names


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    typer.echo(json.dumps(value))


@contextmanager
def progress() -> Generator[Callable[[str], None]]:
    """Show a spinner with the current step on stderr; yield the function that sets the step."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("starting", total=None)
        yield lambda text: display.update(task, description=text)
