"""``turnout bulk``: submit, watch and fetch batches of a gateway; run a job file without one."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from turnout.errors import DataError
from turnout.settings import from_environment

if TYPE_CHECKING:
    from services.batch_api.client import BatchClient

app = typer.Typer(help="Files of requests, run at bulk priority.", no_args_is_help=True)

_ENDED = ("completed", "failed", "expired", "cancelled")
_WATCH_S = 1.0

JobFile = Annotated[Path, typer.Argument(help="A job file: OpenAI batch lines.", exists=True)]
Batch = Annotated[str, typer.Argument(help="The batch's id.")]
Url = Annotated[str, typer.Option(help="The gateway.", envvar="TURNOUT_URL")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON on standard output.")]
_A_LINE = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}'
_HERE = "http://127.0.0.1:3000"


class Engine(StrEnum):
    """Where ``run`` runs."""

    LOCAL = "local"
    RAY = "ray"


@app.command()
def submit(
    file: JobFile,
    url: Url = _HERE,
    endpoint: Annotated[
        str | None, typer.Option(help="What the rows call; by default what the first line says.")
    ] = None,
    window: Annotated[str, typer.Option(help="How long it may take: 30m, 24h, 7d.")] = "24h",
    metadata: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE to keep with it; may be repeated.")
    ] = None,
    watch_it: Annotated[
        bool, typer.Option("--watch", help="Wait, and show how far it is.")
    ] = False,
) -> None:
    """Submit a job file to a gateway and print the batch's id."""
    said = dict(_pair(text) for text in metadata or [])
    called = endpoint or _endpoint(file)
    api = _api(url)
    batch = api.create(api.upload(file), called, window, said)
    typer.echo(batch["id"])
    if watch_it:
        _follow(api, batch["id"])


@app.command("list")
def list_batches(
    url: Url = _HERE,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """List a gateway's batches, the newest first."""
    found = list(_api(url).batches(limit))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for batch in found:
        typer.echo(f"{batch['id']}  {batch['endpoint']}\n    {_line(batch)}")


@app.command()
def show(batch: Batch, url: Url = _HERE) -> None:
    """Print a batch as JSON."""
    typer.echo(json.dumps(_api(url).batch(batch), indent=1))


@app.command()
def watch(batch: Batch, url: Url = _HERE) -> None:
    """Show how far a batch is until it has ended; exit code 1 unless it completed."""
    _follow(_api(url), batch)


@app.command()
def fetch(
    batch: Batch,
    out: Annotated[Path, typer.Option(help="Where the good results go.")],
    errors: Annotated[
        Path | None, typer.Option(help="Where the failed rows go (OUT.errors.jsonl).")
    ] = None,
    url: Url = _HERE,
) -> None:
    """Save the results of a batch that has ended; exit code 1 if rows failed."""
    from services.batch_api.offline.command import default_errors, fail

    api = _api(url)
    found = api.batch(batch)
    if found["status"] not in _ENDED:
        raise DataError(f"{batch} is {found['status']}; wait with: turnout bulk watch {batch}")
    if found["output_file_id"]:
        api.download(found["output_file_id"], out)
    if found["error_file_id"]:
        api.download(found["error_file_id"], errors or default_errors(out))
    fail(errors or default_errors(out), found["request_counts"]["failed"])


@app.command()
def cancel(batch: Batch, url: Url = _HERE) -> None:
    """Cancel a batch; what is done is kept."""
    typer.echo(_api(url).cancel(batch)["status"])


@app.command()
def run(
    file: JobFile,
    out: Annotated[Path, typer.Option(help="Where the good results go.")],
    errors: Annotated[
        Path | None, typer.Option(help="Where the failed rows go (OUT.errors.jsonl).")
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
    """Run a job file without a gateway; run it again to go on after an interruption."""
    # Imported here: the other commands need neither a database nor an engine.
    from services.batch_api.offline import command
    from services.batch_api.offline.ray import Cluster

    bad = errors or command.default_errors(out)
    cluster = Cluster(address, actors, cpus, gpus)
    file_of_models = catalog or from_environment().catalog
    good, failed = command.run(file, out, bad, engine.value, file_of_models, cluster)
    typer.echo(f"{good} rows in {out}", err=True)
    command.fail(bad, failed)


def _api(url: str) -> BatchClient:
    from services.batch_api.client import BatchClient

    return BatchClient(url)


def _follow(api: BatchClient, batch_id: str) -> None:
    console = Console(stderr=True, highlight=False)
    told = ""
    while True:
        batch = api.batch(batch_id)
        if (line := _line(batch)) != told:
            console.print(line)
            told = line
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
    """What the first line of a job file calls.

    Raises:
        DataError: there is no line, it is no JSON object, or it does not say.
    """
    with file.open("rb") as lines:
        found = ((at, line) for at, line in enumerate(lines, 1) if line.strip())
        at, first = next(found, (1, b""))
    if not first:
        raise DataError(f"{file}: is empty; give one request a line, {_A_LINE}")
    try:
        request = json.loads(first)
    except ValueError as error:
        raise DataError(f"{file}:{at}: is not JSON: {error}; give {_A_LINE}") from None
    if not isinstance(request, dict):
        raise DataError(f"{file}:{at}: is no JSON object; give {_A_LINE}")
    if not isinstance(request.get("url"), str):
        raise DataError(f"{file}:{at}: no url; give it there, or --endpoint for every line")
    return request["url"]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise DataError(f"--metadata {text}: give KEY=VALUE")
    return key, value
