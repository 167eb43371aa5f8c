"""Run a job file without a gateway; a run that was interrupted is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.batch_api.offline import job_file, ray
from services.batch_api.offline.parts import Parts
from services.batch_api.offline.ray import Cluster
from services.batch_api.targets import portion_rows
from turnout.catalog import load


def run(
    file: Path,
    output: Path,
    errors: Path,
    engine: str,
    catalog: Path,
    cluster: Cluster,
    progress: Callable[[int, int], None],
) -> tuple[int, int]:
    """Run a job file to its output and error file.

    Args:
        file: OpenAI batch lines, all for one endpoint.
        output: file of the results that succeeded.
        errors: file of the results that failed; not made when there are none.
        engine: ``local`` or ``ray``.
        catalog: the catalog file.
        cluster: where ``ray`` runs.
        progress: told how many rows are done, of how many: before the run and after each portion.

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

    def tell() -> None:
        progress(sum(parts.rows), job.rows)

    tell()
    if engine == "ray":
        ray.run(job, catalog.read_text(encoding="utf-8"), cluster, parts, todo, tell)
    else:
        # Imported here: the process that drives Ray's actors loads no engine.
        from services.batch_api.offline import local

        local.run(job, models, parts, todo, tell)
    parts.finish()
    return parts.rows
