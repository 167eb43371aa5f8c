"""A plane over stand-in backends: real routing, queues of their own, no engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from routing.decision.request_view import RequestAnalyzer
from routing.latency import ModelLatency
from runners.protocol import ActiveEngine, BackendLoad, TensorResult, Ticket
from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.fleet.fleet import Fleet
from services.http.messages import Receive, Scope, Send
from services.metrics.metrics import Metrics
from services.routers.prompt_routers import PromptRouters
from services.server.app import GatewayApp
from tests.runners.optimize.conftest import classifier as classifier
from tests.runners.optimize.conftest import pictures as pictures
from tests.services.small_catalog import write as write
from turnout.catalog import Catalog, Model
from turnout.catalog.reading import parse
from turnout.errors import TurnoutError
from turnout.types import Generation, Piece, Task, Tensors, TokenChance

CATALOG = """version: 1
gateway: {max_body: 64KiB}
classes:
  realtime: {deadline_ms: 100, percentile: 0.99, priority: 0, infeasible: refuse}
  interactive: {deadline_ms: 5000, priority: 1, infeasible: fastest}
  bulk: {deadline_ms: 600000, percentile: 0.5, priority: 2, infeasible: queue}
models:
  fraud-small: &fraud
    task: tabular
    runner: {engine: fake}
    cost: {usd_per_request: 1.0e-6}
    quality: {prior: 0.90}
    profile: {base_ms: 1}
  fraud-large:
    <<: *fraud
    cost: {usd_per_request: 5.0e-6}
    quality: {prior: 0.95}
  image-small:
    task: image
    runner: {engine: fake}
    cost: {usd_per_request: 1.0e-6}
    quality: {prior: 0.8}
  image-large:
    task: image
    runner: {engine: fake}
    cost: {usd_per_request: 1.0e-5}
    quality: {prior: 0.9}
  embedder: {task: embed, runner: {engine: fake}}
  chat-small: {task: chat, runner: {engine: fake}, quality: {prior: 0.4}}
  chat-large:
    task: chat
    runner: {engine: fake}
    cost: {usd_per_1m_output_tokens: 9.0}
    quality: {prior: 0.9}
routes:
  fraud:
    task: tabular
    candidates: [fraud-small, fraud-large]
    latency_class: realtime
    target_quality: {realtime: 0.9, interactive: 0.9, bulk: 1.0}
  image:
    task: image
    candidates: [image-small, image-large]
    latency_class: interactive
    policy: cascade
    cascade: {threshold: 0.5}
  embed: {task: embed, candidates: [embedder], latency_class: interactive}
  chat:
    task: chat
    candidates: [chat-small, chat-large]
    latency_class: interactive
    target_quality: 0.3
  careful:
    task: chat
    candidates: [chat-small, chat-large]
    latency_class: interactive
    policy: cascade
    cascade: {threshold: 0.5, classes: [realtime, interactive]}
"""


@dataclass
class StandIn:
    """A backend that answers at once, and does what a test tells it to.

    Attributes:
        error: raised by every run while set.
        gate: when set, every run waits for it.
        after: pieces written before ``error`` is raised (text only).
        logprob: of each token it writes.
    """

    name: str
    task: Task
    error: TurnoutError | None = None
    load_error: TurnoutError | None = None
    gate: asyncio.Event | None = None
    after: int = 0
    logprob: float = -0.5
    seen: list[Ticket] = field(default_factory=list)
    asked: list[Generation] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    cancelled: int = 0
    running: int = 0
    stopped: bool = False
    active: ActiveEngine | None = None

    def load_now(self) -> BackendLoad:
        return BackendLoad(running=self.running)

    async def start(self) -> None:
        if self.load_error is not None:
            raise self.load_error
        self.active = ActiveEngine("fake", "cpu", "cpu")

    async def stop(self) -> None:
        self.stopped = True

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        self.seen.append(ticket)
        n = len(next(iter(tensors.values())))
        self.rows.append(n)
        await self._wait()
        if self.error is not None:
            raise self.error
        mark = 1 if self.name.endswith("large") else 0
        made: dict[Task, Tensors] = {
            Task.TABULAR: {"probability": np.full(n, mark, np.float32)},
            Task.EMBED: {"embedding": np.ones((n, 384), np.float32)},
            Task.IMAGE: {
                "class_id": np.full(n, mark, np.int64),
                "class_name": np.array([b"cat"] * n, object),
                "score": np.array(
                    [float(blob) if mark == 0 else 0.99 for blob in tensors.get("image", [])],
                    np.float32,
                ),
            },
        }
        return TensorResult(made[self.task], 0.001, 0.002, n)

    async def generate(self, generation: Generation, ticket: Ticket) -> AsyncIterator[Piece]:
        self.seen.append(ticket)
        self.asked.append(generation)
        self.running += 1
        try:
            words = [f"{self.name} ", "says ", generation.messages[-1].content]
            for index, word in enumerate(words):
                if self.error is not None and index >= self.after:
                    raise self.error
                await self._wait()
                chance = TokenChance(word.encode(), self.logprob, (TokenChance(b"\xc3", -0.7),))
                yield Piece(word, (index,), (chance,) if generation.logprobs else ())
            yield Piece("", (), (), "stop", 7, len(words), 4)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()


@dataclass
class Rig:
    """A plane, its stand-ins by name, and an HTTP client on its front door."""

    plane: DataPlane
    backends: dict[str, StandIn]
    door: GatewayApp
    client: httpx.AsyncClient
    registry: CollectorRegistry

    def use(self, routers: PromptRouters, judge: RequestAnalyzer) -> None:
        """Begin again with trained routers behind the judge."""
        old = self.plane
        self.plane = DataPlane(
            old.catalog, old.fleet, judge, old.metrics, old.log, seed=b"seed", routers=routers
        )

    def count(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 while it was never counted."""
        self.plane.measure()
        return self.registry.get_sample_value(name, labels) or 0.0


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands for BentoML's application: answers 418 to whatever reaches it."""
    del scope, receive
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"bentoml"})


def paths_of(app: GatewayApp) -> frozenset[str]:
    """Every path that an application's route table holds."""
    assert app.dispatcher is not None
    return app.dispatcher.routes.paths


@pytest.fixture
def catalog() -> Catalog:
    return parse(CATALOG, "test")


@pytest.fixture
async def make_rig(catalog: Catalog) -> AsyncIterator[Callable[..., Rig]]:
    opened: list[Rig] = []

    def make(
        prepare: Callable[[dict[str, StandIn]], None] = lambda backends: None,
        log: DecisionLog | None = None,
    ) -> Rig:
        backends = {name: StandIn(name, model.task) for name, model in catalog.models.items()}
        prepare(backends)
        registry = CollectorRegistry()

        def backend(name: str, model: Model, latency: ModelLatency) -> StandIn:
            del model, latency
            return backends[name]

        fleet = Fleet(catalog, backend)
        plane = DataPlane(
            catalog, fleet, RequestAnalyzer(catalog), Metrics(registry), log or DecisionLog()
        )
        door = GatewayApp(lambda: rig.plane, behind)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=door), base_url="http://turnout"
        )
        rig = Rig(plane, backends, door, client, registry)
        opened.append(rig)
        fleet.start()
        return rig

    yield make
    for rig in opened:
        await rig.client.aclose()
        await rig.plane.fleet.stop()


@pytest.fixture
async def rig(make_rig: Callable[..., Rig]) -> Rig:
    made = make_rig()
    await made.plane.fleet.settled()
    return made
