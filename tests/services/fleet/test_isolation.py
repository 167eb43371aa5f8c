"""One model's trouble, through the real pool, threads and front door: the others never notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.dataplane.data_plane import DataPlane
from services.dataplane.factory import compose
from services.metrics.metrics import Metrics
from services.server.app import GatewayApp
from tests.services.conftest import behind
from turnout.catalog.reading import parse
from turnout.settings import Settings

CATALOG = """version: 1
classes:
  interactive: {{deadline_ms: 10000, priority: 1}}
models:
  ill:
    task: tabular
    runner: {{engine: fake, latency_ms: 2, {fault}}}
    limits: {{max_run_s: 0.2, max_load_s: 60}}
    profile: {{base_ms: 2}}
  well-1: &well {{task: tabular, runner: {{engine: fake, latency_ms: 2}}, profile: {{base_ms: 2}}}}
  well-2: *well
routes:
  alone: {{task: tabular, candidates: [ill], latency_class: interactive}}
  both: {{task: tabular, candidates: [ill, well-1], latency_class: interactive}}
"""
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


@asynccontextmanager
async def serving(fault: str) -> AsyncIterator[tuple[httpx.AsyncClient, DataPlane]]:
    catalog = parse(CATALOG.format(fault=fault), "test")
    plane = compose(catalog, Settings(Path("unused")), Metrics(CollectorRegistry()))
    door = GatewayApp(lambda: plane, behind)
    plane.fleet.start()
    await plane.fleet.settled()
    transport = httpx.ASGITransport(app=door)
    async with httpx.AsyncClient(transport=transport, base_url="http://turnout") as client:
        yield client, plane
    await plane.fleet.stop()


async def ask(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post(f"/v2/models/{name}/infer", json=ROW)


async def state(client: httpx.AsyncClient, name: str) -> str:
    return (await client.get(f"/v2/models/{name}")).json()["parameters"]["state"]


async def test_how_long_a_load_may_take_is_the_catalogs_word() -> None:
    async with serving("fail: never") as (_, plane):
        limits = {name: slot.max_load_s for name, slot in plane.fleet.pool.slots.items()}
        assert limits == {"ill": 60.0, "well-1": 300.0, "well-2": 300.0}


@pytest.mark.parametrize("fault", ["fail: run", "fail: nan", "fail: hang"])
async def test_a_model_in_trouble_is_quarantined_and_the_others_answer(fault: str) -> None:
    async with serving(fault) as (client, _):
        answers = await asyncio.gather(
            *(ask(client, name) for _ in range(30) for name in ("well-1", "well-2", "ill"))
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses[0::3] == statuses[1::3] == [200] * 30
        assert {500, 503} & set(statuses[2::3])
        for _ in range(6):
            await ask(client, "ill")
        assert await state(client, "ill") not in ("ready", "loading")
        assert await state(client, "well-1") == "ready"
        assert (await client.get("/v2/models/ill/ready")).status_code == 503
        instead = await ask(client, "both")
        assert instead.headers["x-turnout-model"] == "well-1"


async def test_a_model_that_becomes_ten_times_slower_is_reported() -> None:
    async with serving("fail: never") as (client, plane):
        pace = plane.fleet.members["ill"].pace
        for run_s in (*[0.002] * 200, *[0.02] * 60):
            pace.observe(run_s, 0.002)
        said = (await client.get("/v2/models/ill")).json()["parameters"]
        assert "times what they did" in said["slow"]
        well = (await client.get("/v2/models/well-1")).json()["parameters"]
        assert "slow" not in well
