"""``turnout bulk``: submit, watch and fetch batches of a gateway; run a job file without one."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.batch_api.client import BatchClient
from turnout.errors import DataError
from turnout.settings import from_environment

app = typer.Typer(help="Files of requests, run at bulk priority.", no_args_is_help=True)

_ENDED = ("completed", "failed", "expired", "cancelled")
_WATCH_S = 1.0
_PROGRESS_S = 2.0

JobFile = Annotated[Path, typer.Argument(help="A job file: OpenAI batch lines.", exists=True)]
Batch = Annotated[str, typer.Argument(help="The batch's id.")]
Url = Annotated[str, typer.Option(help="The gateway.", envvar="TURNOUT_URL")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON on standard output.")]
_EXAMPLE = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}'
_HERE = "http://127.0.0.1:3000"


class Engine(StrEnum):
    """The engine of ``run``."""

    LOCAL = "local"
    RAY = "ray"


@app.command()
def submit(
    file: JobFile,
    url: Url = _HERE,
    endpoint: Annotated[
        str | None, typer.Option(help="The endpoint of all rows; default: the first line's.")
    ] = None,
    window: Annotated[str, typer.Option(help="The completion window: 30m, 24h, 7d.")] = "24h",
    metadata: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE stored with the batch; may be repeated.")
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Wait and show the progress.")] = False,
) -> None:
    """Submit a job file to a gateway and print the batch's id."""
    pairs = dict(_pair(text) for text in metadata or [])
    target = endpoint or _endpoint(file)
    api = BatchClient(url)
    batch = api.create(api.upload(file), target, window, pairs)
    typer.echo(batch["id"])
    if watch_it:
        _follow(api, batch["id"])


@app.command("list")
def list_batches(
    url: Url = _HERE,
    limit: Annotated[int, typer.Option(help="The largest number of batches.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """List a gateway's batches, the newest first."""
    batches = list(BatchClient(url).batches(limit))
    if as_json:
        typer.echo(json.dumps(batches, indent=1))
        return
    for batch in batches:
        typer.echo(f"{batch['id']}  {batch['endpoint']}\n    {_line(batch)}")


@app.command()
def show(batch: Batch, url: Url = _HERE) -> None:
    """Print a batch as JSON."""
    typer.echo(json.dumps(BatchClient(url).batch(batch), indent=1))


@app.command()
def watch(batch: Batch, url: Url = _HERE) -> None:
    """Show a batch's progress until it ends; exit code 1 unless it completed."""
    _follow(BatchClient(url), batch)


@app.command()
def fetch(
    batch: Batch,
    out: Annotated[Path, typer.Option(help="The file of the results.")],
    errors: Annotated[
        Path | None, typer.Option(help="The file of the failed rows (OUT.errors.jsonl).")
    ] = None,
    url: Url = _HERE,
) -> None:
    """Save the results of an ended batch; exit code 1 if rows failed."""
    api = BatchClient(url)
    state = api.batch(batch)
    if state["status"] not in _ENDED:
        raise DataError(f"{batch} is {state['status']}; wait with: turnout bulk watch {batch}")
    error_file = errors or _beside(out)
    if state["output_file_id"]:
        api.download(state["output_file_id"], out)
    if state["error_file_id"]:
        api.download(state["error_file_id"], error_file)
    _exit_on_failures(error_file, state["request_counts"]["failed"])


@app.command()
def cancel(batch: Batch, url: Url = _HERE) -> None:
    """Cancel a batch; finished rows are kept."""
    typer.echo(BatchClient(url).cancel(batch)["status"])


@app.command()
def run(
    file: JobFile,
    out: Annotated[Path, typer.Option(help="The file of the results.")],
    errors: Annotated[
        Path | None, typer.Option(help="The file of the failed rows (OUT.errors.jsonl).")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="This process, or a Ray cluster.")] = Engine.LOCAL,
    catalog: Annotated[
        Path | None, typer.Option(help="The catalog.", envvar="TURNOUT_CATALOG")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster; by default one is started here.")
    ] = None,
    actors: Annotated[int, typer.Option(help="Processes that run rows (ray).", min=1)] = 1,
    cpus: Annotated[float, typer.Option(help="Cores an actor takes (ray).", min=0)] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs an actor takes (ray).", min=0)] = 0.0,
) -> None:
    """Run a job file without a gateway; run it again to resume after an interruption."""
    # The other commands need neither a database nor an engine.
    from services.batch_api.offline import command
    from services.batch_api.offline.ray import Cluster

    error_file = errors or _beside(out)
    cluster = Cluster(address, actors, cpus, gpus)
    catalog_file = catalog or from_environment().catalog
    progress = _Progress(Console(stderr=True, highlight=False))
    succeeded, failed = command.run(
        file, out, error_file, engine.value, catalog_file, cluster, progress
    )
    typer.echo(f"{succeeded} rows in {out}", err=True)
    _exit_on_failures(error_file, failed)


class _Progress:
    """Prints the number of finished rows, at most every two seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._earlier: int | None = None
        self._began_s: float | None = None
        self._printed_s = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self._earlier is None:
            self._earlier = done
            if done:
                self._console.print(f"{done} of {total} rows were finished by an earlier run")
            return
        now_s = time.monotonic()
        if self._began_s is None:  # the time before the first portion is the models' load
            self._began_s, self._earlier = now_s, done
        if now_s - self._printed_s < _PROGRESS_S and done < total:
            return
        self._printed_s = now_s
        rate = (done - self._earlier) / max(now_s - self._began_s, 1e-3)
        left = f", {rate:.0f}/s, {(total - done) / rate:.0f} s left" if rate else ""
        self._console.print(f"{done} of {total} rows{left}")


def _beside(output: Path) -> Path:
    """Return the default error file: ``out.errors.jsonl`` beside ``out.jsonl``."""
    return output.with_name(f"{output.stem}.errors{output.suffix}")


def _exit_on_failures(error_file: Path, failed: int) -> None:
    """Print the error file and exit with code 1 when rows failed."""
    if failed:
        typer.echo(f"{failed} rows failed; see {error_file}", err=True)
        raise SystemExit(1)


def _follow(api: BatchClient, batch_id: str) -> None:
    console = Console(stderr=True, highlight=False)
    printed = ""
    while True:
        batch = api.batch(batch_id)
        if (line := _line(batch)) != printed:
            console.print(line)
            printed = line
        if batch["status"] in _ENDED:
            break
        time.sleep(_WATCH_S)
    for problem in (batch["errors"] or {"data": []})["data"]:
        console.print(f"line {problem['line']}: {problem['message']}")
    if batch["status"] != "completed":
        raise SystemExit(1)


def _line(batch: dict[str, Any]) -> str:
    counts, speed = batch["request_counts"], batch["turnout"]
    done = counts["completed"] + counts["failed"]
    text = f"{batch['status']}: {done} of {counts['total']} rows, {counts['failed']} failed"
    if speed["rows_per_s"] is not None:
        text += f", {speed['rows_per_s']:.0f}/s"
    return text if speed["eta_s"] is None else f"{text}, {speed['eta_s']:.0f} s left"


def _endpoint(file: Path) -> str:
    """Return the endpoint that the first line of a job file calls.

    Raises:
        DataError: the file is empty, or its first line is not a JSON object with a url.
    """
    with file.open("rb") as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        number, first = next(numbered, (1, b""))
    if not first:
        raise DataError(f"{file}: is empty; give one request a line, {_EXAMPLE}")
    try:
        request = json.loads(first)
    except ValueError as error:
        raise DataError(f"{file}:{number}: is not JSON: {error}; give {_EXAMPLE}") from None
    if not isinstance(request, dict):
        raise DataError(f"{file}:{number}: is not a JSON object; give {_EXAMPLE}")
    if not isinstance(request.get("url"), str):
        raise DataError(f"{file}:{number}: no url; give it there, or --endpoint for every line")
    return request["url"]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise DataError(f"--metadata {text}: give KEY=VALUE")
    return key, value
