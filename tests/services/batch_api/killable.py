"""A process that runs batches as a gateway does, and may be killed at any instant."""

from __future__ import annotations

import asyncio
import os

from services.batch_api.service import BatchService
from services.dataplane.factory import compose
from turnout.catalog.reading import parse
from turnout.settings import from_environment

ENDPOINT = "/v2/models/image/infer"
CATALOG = """version: 1
classes:
  interactive: {deadline_ms: 5000, priority: 1}
  bulk: {deadline_ms: 600000, percentile: 0.5, priority: 2, infeasible: queue}
models:
  classifier: {task: image, runner: {engine: fake}, batching: {max_rows: 8}}
routes:
  image: {task: image, candidates: [classifier], latency_class: interactive}
"""


def run(url: str) -> None:
    """Work on the batches of a database until killed, or until this process is an orphan."""
    asyncio.run(_run(url, os.getppid()))


async def _run(url: str, parent: int) -> None:
    plane = compose(parse(CATALOG, "test"), from_environment({}))
    bulk = BatchService(plane, url)
    plane.fleet.start()
    await bulk.start()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
