"""``--engine local``: the job's rows run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from services.batch_api.leases import Portion, Results
from services.batch_api.offline.job_file import JobFile
from services.batch_api.offline.parts import Parts
from services.batch_api.offline.rows import Rows
from turnout.catalog import Catalog


def run(
    job: JobFile,
    catalog: Catalog,
    parts: Parts,
    todo: Iterator[Portion],
    report: Callable[[], None],
) -> None:
    """Run the portions of a job that are left.

    Args:
        job: the job.
        catalog: the models.
        parts: stores the results.
        todo: the portions that are left.
        report: called after each portion that was stored.
    """
    asyncio.run(_run(job, catalog, parts, todo, report))


async def _run(
    job: JobFile,
    catalog: Catalog,
    parts: Parts,
    todo: Iterator[Portion],
    report: Callable[[], None],
) -> None:
    async def keep(portion: Portion, results: Results) -> None:
        await asyncio.to_thread(parts.add, portion.first_row, results)
        report()

    rows = Rows(catalog, job.endpoint)
    await rows.start()
    try:
        await rows.run(job.batch_id, todo, keep)
    finally:
        await rows.stop()
