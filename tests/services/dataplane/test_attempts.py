from __future__ import annotations

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from routing.decision.request_view import RequestAnalyzer
from services.dataplane.attempts import Attempts
from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.fleet.fleet import Fleet
from services.metrics.metrics import Metrics
from tests.services.conftest import StandIn
from turnout.catalog.reading import parse
from turnout.errors import LoadFailed
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
ROWS = {"features": np.zeros((1, 15), np.float32)}


def begin(far: StandIn) -> tuple[Fleet, Attempts, Request]:
    catalog = parse(CATALOG, "test")
    fleet = Fleet(catalog, lambda name, model, latency: far)
    metrics, log = Metrics(CollectorRegistry()), DecisionLog()
    plane = DataPlane(catalog, fleet, RequestAnalyzer(catalog), metrics, log, lambda: 0.0)
    request = Request("id", "far", Task.TABULAR, ROWS, "interactive", 0.0, 60.0)
    with plane.under_way(()) as snapshot:
        return fleet, snapshot.attempts, request


async def test_a_cancel_is_kept_when_the_model_becomes_ready_in_the_same_moment() -> None:
    fleet, attempts, request = begin(StandIn("far", Task.TABULAR, gate=asyncio.Event()))
    asked = asyncio.ensure_future(attempts.infer("far", request, ROWS))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fleet.members["far"].ready.set()
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked], timeout=10.0)
    assert asked.cancelled()


async def test_a_model_that_a_reload_has_removed_is_one_that_cannot_answer() -> None:
    fleet, attempts, request = begin(StandIn("far", Task.TABULAR))
    fleet.members.pop("far")
    with pytest.raises(LoadFailed, match="removed it from the catalog"):
        await attempts.infer("far", request, ROWS)
