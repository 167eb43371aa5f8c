"""``turnout bulk run``: a job file, run without a gateway, resumable."""

from __future__ import annotations

import time
from pathlib import Path

import typer
from rich.console import Console

from services.batch_api.offline import job_file, ray
from services.batch_api.offline.job_file import JobFile
from services.batch_api.offline.parts import Parts
from services.batch_api.offline.ray import Cluster
from services.batch_api.targets import portion_rows
from turnout.catalog import load

_REPORT_S = 2.0


def run(
    file: Path, output: Path, errors: Path, engine: str, catalog: Path, cluster: Cluster
) -> tuple[int, int]:
    """Run a job file to its output and error file.

    Args:
        file: OpenAI batch lines, all for one endpoint.
        output: file of the results that succeeded.
        errors: file of the results that failed; not made when there are none.
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
    models = load(catalog)
    job = job_file.read(file)
    size = portion_rows(models, job.endpoint)
    parts = Parts(job, size, output, errors)
    todo = (each for each in job.portions(size) if not parts.has(each.first_row))
    report = _ProgressReport(job, parts).update
    if engine == "ray":
        ray.run(job, catalog.read_text(encoding="utf-8"), cluster, parts, todo, report)
    else:
        # Imported here: the process that drives Ray's actors loads no engine.
        from services.batch_api.offline import local

        local.run(job, models, parts, todo, report)
    parts.finish()
    return parts.rows


class _ProgressReport:
    """Prints every few seconds how many rows of a job are finished, and how fast it runs."""

    def __init__(self, job: JobFile, parts: Parts) -> None:
        self._job = job
        self._parts = parts
        self._console = Console(stderr=True, highlight=False)
        self._printed_s = time.monotonic()
        self._began: tuple[float, int] | None = None  # instant and rows, once models are loaded
        if earlier := sum(parts.rows):
            self._console.print(f"{earlier} of {job.rows} rows were finished by an earlier run")

    def update(self) -> None:
        """A portion was stored."""
        now_s, done = time.monotonic(), sum(self._parts.rows)
        began_s, earlier = self._began = self._began or (now_s, done)
        if now_s - self._printed_s < _REPORT_S and done < self._job.rows:
            return
        self._printed_s = now_s
        rate = (done - earlier) / max(now_s - began_s, 1e-3)
        left = f", {rate:.0f}/s, {(self._job.rows - done) / rate:.0f} s left" if rate else ""
        self._console.print(f"{done} of {self._job.rows} rows{left}")


def default_errors(output: Path) -> Path:
    """Beside the output: ``out.jsonl`` has ``out.errors.jsonl``."""
    return output.with_name(f"{output.stem}.errors{output.suffix}")


def fail(errors: Path, failed: int) -> None:
    """End with exit code 1 when rows failed, and print where they are."""
    if failed:
        typer.echo(f"{failed} rows failed; see {errors}", err=True)
        raise SystemExit(1)
