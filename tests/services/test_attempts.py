from __future__ import annotations

import asyncio

import numpy as np

from services.attempts import Attempts
from services.fleet import Fleet
from tests.services.conftest import StandIn
from turnout.catalog.reading import parse
from turnout.types import Request, Task

CATALOG = """version: 1
classes:
  interactive: {deadline_ms: 60000, priority: 1}
models:
  far:
    task: tabular
    runner: {engine: open-inference, url: "http://127.0.0.1:9", model: far}
    placement: remote
routes:
  r: {task: tabular, candidates: [far], latency_class: interactive}
"""


async def test_a_cancel_is_kept_when_the_model_becomes_ready_in_the_same_moment() -> None:
    catalog = parse(CATALOG, "test")
    far = StandIn("far", Task.TABULAR, gate=asyncio.Event())
    fleet = Fleet(catalog, lambda name, model, latency: far)
    attempts = Attempts(catalog, fleet, lambda: 0.0)
    rows = {"features": np.zeros((1, 15), np.float32)}
    request = Request("id", "far", Task.TABULAR, rows, "interactive", 0.0, 60.0)
    asked = asyncio.ensure_future(attempts.infer("far", request, rows))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fleet.members["far"].ready.set()
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked], timeout=10.0)
    assert asked.cancelled()
