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
    job: JobFile, catalog: Catalog, parts: Parts, todo: Iterator[Portion], tell: Callable[[], None]
) -> None:
    """Run what is left of a job.

    Args:
        job: the job.
        catalog: where its models are.
        parts: where results are kept.
        todo: what is left.
        tell: called after each portion that was kept.
    """
    asyncio.run(_run(job, catalog, parts, todo, tell))


async def _run(
    job: JobFile, catalog: Catalog, parts: Parts, todo: Iterator[Portion], tell: Callable[[], None]
) -> None:
    async def keep(portion: Portion, results: Results) -> None:
        await asyncio.to_thread(parts.add, portion.first_row, results)
        tell()

    rows = Rows(catalog, job.endpoint)
    await rows.start()
    try:
        await rows.run(job.batch_id, todo, keep)
    finally:
        await rows.stop()
