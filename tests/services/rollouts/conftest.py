"""A gateway without a server: a model of three versions on stand-in engines, and its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.dataplane.data_plane import DataPlane
from services.dataplane.factory import compose
from services.metrics.metrics import Metrics
from services.rollouts.store import AliasStore
from services.server.app import GatewayApp
from services.server.auth import TOKEN
from tests.services.batch_api.conftest import url as url
from tests.services.conftest import behind
from tests.services.database.conftest import postgres_url as postgres_url
from turnout.catalog.reading import parse
from turnout.settings import Settings

CATALOG = """version: 1
classes:
  quick: {deadline_ms: 2000, priority: 0, infeasible: refuse}
  patient: {deadline_ms: 60000, priority: 1, infeasible: queue}
models:
  ranker:
    task: tabular
    runner: {engine: fake}
    profile: {base_ms: 1}
    versions:
      1: {cost: {usd_per_request: 0.001}}
      2: {}
      3: {}
    production: 1
    canary: {version: 2, share: 0.4}
  writer:
    task: chat
    runner: {engine: fake}
    versions: {a: {}, b: {}}
    production: a
  other: {task: tabular, runner: {engine: fake}, quality: {prior: 0.2}}
routes:
  rank: {task: tabular, candidates: [ranker, other], latency_class: quick}
  careful: {task: tabular, candidates: [ranker@production], latency_class: quick}
  chat: {task: chat, candidates: [writer], latency_class: patient}
"""
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


@dataclass
class Gateway:
    """A plane, its front door's client, and its metrics."""

    plane: DataPlane
    client: httpx.AsyncClient
    registry: CollectorRegistry

    async def ask(self, name: str = "rank", **headers: str) -> httpx.Response:
        reply = await self.client.post(f"/v2/models/{name}/infer", json=ROW, headers=headers)
        assert reply.status_code == 200, reply.text
        return reply

    async def answered(self, n: int, name: str = "rank") -> dict[str, int]:
        """How many of n requests each model answered."""
        found: dict[str, int] = {}
        for _ in range(n):
            model = (await self.ask(name)).headers["x-turnout-model"]
            found[model] = found.get(model, 0) + 1
        return found

    async def move(self, verb: str, name: str = "ranker", **body: Any) -> httpx.Response:
        return await self.client.post(f"/v2/repository/models/{name}/{verb}", json=body)

    async def decision(self, reply: httpx.Response) -> dict[str, Any]:
        decision_id = reply.headers["x-turnout-decision"]
        return (await self.client.get(f"/v1/decisions/{decision_id}")).json()

    def count(self, name: str, **labels: str) -> float:
        self.plane.measure()
        return self.registry.get_sample_value(name, labels) or 0.0


Serve = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    monkeypatch.delenv(TOKEN, raising=False)
    opened: list[Gateway] = []

    async def serve(
        text: str = CATALOG, book: Callable[[], AliasStore] | None = None, log: Path | None = None
    ) -> Gateway:
        registry = CollectorRegistry()
        settings = Settings(Path("catalog"), decision_log=log)
        plane = compose(parse(text, "test"), settings, Metrics(registry))
        if book is not None:
            await plane.rollouts.open(book)
        plane.fleet.start()
        await plane.fleet.settled()
        transport = httpx.ASGITransport(app=GatewayApp(lambda: plane, behind))
        client = httpx.AsyncClient(transport=transport, base_url="http://turnout")
        opened.append(Gateway(plane, client, registry))
        return opened[-1]

    yield serve
    for gateway in opened:
        await gateway.client.aclose()
        await gateway.plane.rollouts.close()
        await gateway.plane.fleet.stop()
        gateway.plane.close()
