"""``turnout optimize``: optimise a model by passes, check it by a gate, report and store it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from runners.optimize.chain import Chain
from runners.optimize.registry import PASSES, load_pass
from services.artifacts.optimize_model import Result, optimize
from services.artifacts.store import described
from turnout.catalog import load
from turnout.errors import ConfigError
from turnout.settings import PROJECT

app = typer.Typer(add_completion=False)

_DEFAULT = PROJECT / "catalog" / "default.yaml"


@app.command()
def run(
    model: Annotated[str | None, typer.Argument(help="Its name in the catalog.")] = None,
    catalog: Annotated[
        Path, typer.Option(help="The catalog.", envvar="TURNOUT_CATALOG")
    ] = _DEFAULT,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Inputs to calibrate on (one half) and judge on (the other): a folder of "
            "pictures (labels.json beside them maps names to classes), a parquet of transactions, "
            "a text file of sentences."
        ),
    ] = None,
    passes: Annotated[
        list[str] | None,
        typer.Option(
            help="Passes to try, as graph,int8 or graph,int8:method=entropy:keep_ends=true; may be "
            "repeated. Default: the catalog's, else the task's."
        ),
    ] = None,
    list_passes: Annotated[bool, typer.Option("--list-passes", help="List the passes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the report as JSON.")] = False,
) -> None:
    """Optimise a model and check it by its gate; exit with 1 when no candidate may serve."""
    if list_passes:
        _list(as_json)
        return
    if model is None:
        raise ConfigError("name a model of the catalog: turnout optimize MODEL")
    console = Console(stderr=True, highlight=False)
    chains = [read_chain(text) for text in passes or ()]
    with _progress(console) as progress:
        bar = progress.add_task(f"optimising {model}", total=None)

        def report(line: str) -> None:
            progress.update(bar, description=escape(line))
            if not console.is_terminal:
                console.print(line, soft_wrap=True, markup=False)

        def stepped(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        result = optimize(load(catalog), model, report, inputs, chains, stepped)
    if as_json:
        report_json = {**result.report, "path": str(result.path), "may_serve": result.may_serve}
        typer.echo(json.dumps(report_json, indent=1, default=list))
    else:
        _show(result, Console(highlight=False))
    if not result.may_serve:
        raise typer.Exit(1)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def read_chain(text: str) -> Chain:
    """Read ``graph,int8:method=entropy`` as passes with their options.

    Raises:
        ConfigError: the text has another form.
    """
    steps: list[tuple[str, dict[str, Any]]] = []
    for part in text.split(","):
        name, *options = part.strip().split(":")
        pairs = [option.partition("=") for option in options]
        if not name or any(not key or not equals for key, equals, _ in pairs):
            raise ConfigError(f"--passes {text!r}: write NAME or NAME:OPTION=VALUE, with commas")
        steps.append((name, {key: _value(value) for key, _, value in pairs}))
    return steps


def _value(text: str) -> Any:
    """Read a number, true, false, null, or names joined by ``+``."""
    if "+" in text:
        return tuple(text.split("+"))
    return yaml.safe_load(text)


def _list(as_json: bool) -> None:
    passes = {name: load_pass(name) for name in PASSES}
    if as_json:
        listed = {name: {"what": p.what, "options": p.options} for name, p in passes.items()}
        typer.echo(json.dumps(listed, indent=1, default=list))
        return
    table = Table("pass", "what", "options, with defaults", box=None)
    for name, each in passes.items():
        table.add_row(name, each.what, _options(each.options))
    Console().print(table)


def _options(options: Any) -> str:
    return ", ".join(
        f"{key}: {'auto' if value is None else list(value) if isinstance(value, tuple) else value}"
        for key, value in options.items()
    )


def _show(result: Result, console: Console) -> None:
    report = result.report
    judged = report["judged_on"]
    console.print(
        f"{report['model']}: calibrated on {report['calibrated_on']['inputs']} inputs, judged on "
        f"{judged['inputs']} others ({judged['independent']} independent, "
        f"{'with' if judged['labelled'] else 'without'} labels)",
        soft_wrap=True,
    )
    table = Table("passes", "may serve", "loss", "agreement", "x 1 row", "x 8 rows", "MB", box=None)
    for candidate in report["candidates"]:
        serves = "yes" if candidate["may_serve"] else "no"
        table.add_row(candidate["name"], serves, *_numbers(candidate))
    console.print(table)
    for candidate in report["candidates"]:
        for why in candidate["why_not"]:
            console.print(f"{candidate['name']}: {why}", soft_wrap=True, markup=False)
    console.print(f"report: {result.path / 'report.html'}", soft_wrap=True, markup=False)
    _how_to_serve(result, console)


def _how_to_serve(result: Result, console: Console) -> None:
    stored = result.stored
    if stored is None:
        console.print("no candidate may serve, so nothing was stored")
    elif not result.may_serve:
        console.print("stored with its verdict: the gateway refuses to load it")
    elif result.study.entry.artifact != stored:
        entry = {
            "tag": stored.tag,
            **({"recipe": stored.recipe, "options": stored.options} if stored.recipe else {}),
            **{k: v for k, v in described(stored).items() if k in ("source", "sha256")},
            "optimize": {"passes": list(stored.optimize.passes) if stored.optimize else []},
        }
        console.print("to serve it, give a model of the catalog this artifact:")
        console.print(yaml.safe_dump({"artifact": entry}, sort_keys=False), markup=False)


def _numbers(candidate: Any) -> list[str]:
    judgement, measured = candidate["judgement"], candidate["measured"]
    if judgement is None or measured is None:
        return ["", "", "", "", ""]
    speeds = [f"{row['speedup']:.2f}" for row in measured["latency"].values()]
    loss, agreement = judgement["loss"], judgement["agreement"]
    return [
        f"{loss['value']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}]",
        f"{agreement['value']:.4f} [{agreement['low']:.4f}, {agreement['high']:.4f}]",
        *speeds,
        f"{measured['file_bytes'] / 1e6:.1f}",
    ]
