"""``turnout bulk run``: a job file, run without a gateway, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console

from services.batch_api.offline import job_file
from services.batch_api.offline.job_file import JobFile
from services.batch_api.offline.parts import Parts
from services.batch_api.offline.ray import Cluster
from services.batch_api.targets import portion_rows
from turnout.catalog import load

_TELL_S = 2.0


def run(
    file: Path, output: Path, errors: Path, engine: str, catalog: Path, cluster: Cluster
) -> tuple[int, int]:
    """Run a job file to its output and error file.

    Args:
        file: OpenAI batch lines, all for one endpoint.
        output: where good results go.
        errors: where bad ones go; not made when there are none.
        engine: ``local`` or ``ray``.
        catalog: the catalog file.
        cluster: where ``ray`` runs.

    Returns:
        Rows that succeeded, rows that failed.

    Raises:
        DataError: the job file is malformed, or the output exists.
        InvalidRequest: the catalog has nothing for its endpoint.
        ConfigError: no model could be loaded, or Ray is not installed.
    """
    fleet = load(catalog)
    job = job_file.read(file)
    size = portion_rows(fleet, job.endpoint)
    parts = Parts(job, size, output, errors)
    todo = (each for each in job.portions(size) if not parts.has(each.first_row))
    tell = _teller(job, parts)
    if engine == "ray":
        from services.batch_api.offline import ray

        ray.run(job, catalog.read_text(encoding="utf-8"), cluster, parts, todo, tell)
    else:
        from services.batch_api.offline import local

        local.run(job, fleet, parts, todo, tell)
    parts.finish()
    return parts.rows


def _teller(job: JobFile, parts: Parts) -> Callable[[], None]:
    """Says now and then how far it is."""
    console = Console(stderr=True, highlight=False)
    began_s = told_s = time.monotonic()
    before = sum(parts.rows)
    first = True
    if before:
        console.print(f"{before} of {job.rows} rows were finished by an earlier run")

    def tell() -> None:
        nonlocal told_s, began_s, before, first
        now_s = time.monotonic()
        done = sum(parts.rows)
        if first:  # what came before it was loading
            began_s, before, first = now_s, done, False
        if now_s - told_s < _TELL_S and done < job.rows:
            return
        told_s = now_s
        rate = (done - before) / max(now_s - began_s, 1e-3)
        left = f", {rate:.0f}/s, {(job.rows - done) / rate:.0f} s left" if rate else ""
        console.print(f"{done} of {job.rows} rows{left}")

    return tell


def default_errors(output: Path) -> Path:
    """Beside the output: ``out.jsonl`` has ``out.errors.jsonl``."""
    return output.with_name(f"{output.stem}.errors{output.suffix}")


def fail(errors: Path, failed: int) -> None:
    """End with exit code 1 when rows failed, and say where they are."""
    if failed:
        typer.echo(f"{failed} rows failed; see {errors}", err=True)
        raise SystemExit(1)
