"""A catalog is reloaded while chats are under way."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from routing.decision.request_view import RequestAnalyzer
from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.fleet.fleet import Fleet
from services.metrics.metrics import Metrics
from tests.services.conftest import StandIn
from turnout.catalog.reading import parse
from turnout.types import Generation, Message, Request, Task

CATALOG = """version: 1
classes:
  interactive: {deadline_ms: 60000, priority: 1}
models:
  stays: {task: chat, runner: {engine: fake}, quality: {prior: 0.1}}
  goes:
    task: chat
    runner: {engine: openai, url: "http://127.0.0.1:9", model: m}
    placement: remote
    cost: {usd_per_1m_output_tokens: 9.0}
    quality: {prior: 0.9}
routes:
  chat: {task: chat, candidates: [stays, goes], latency_class: interactive, policy: best}
"""
WITHOUT = parse(
    CATALOG.replace(CATALOG[CATALOG.index("  goes:") : CATALOG.index("routes:")], "").replace(
        "[stays, goes]", "[stays]"
    ),
    "test",
)


async def begin() -> tuple[DataPlane, dict[str, StandIn]]:
    catalog = parse(CATALOG, "test")
    stand_ins = {name: StandIn(name, Task.CHAT) for name in catalog.models}
    fleet = Fleet(catalog, lambda name, model, latency: stand_ins[name])
    plane = DataPlane(
        catalog, fleet, RequestAnalyzer(catalog), Metrics(CollectorRegistry()), DecisionLog()
    )
    fleet.start()
    await fleet.settled()
    return plane, stand_ins


def reload(plane: DataPlane) -> None:
    plane.fleet.adopt(WITHOUT)
    plane.adopt(WITHOUT, RequestAnalyzer(WITHOUT))


def chat(plane: DataPlane) -> Request:
    now_s = plane.clock()
    asked = Generation((Message("user", "hi"),))
    return Request("id", "chat", Task.CHAT, asked, "interactive", now_s, now_s + 60.0)


async def test_a_chat_under_way_on_a_removed_remote_model_ends_well_and_is_accounted_for() -> None:
    plane, stand_ins = await begin()
    stream = await plane.generate(chat(plane))
    assert stream.model == "goes"
    reload(plane)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not stand_ins["goes"].stopped
    assert "".join([piece.text async for piece in stream.pieces]) == "goes says hi"
    record = plane.log.get("id")
    assert record is not None
    assert record.outcome is not None
    assert record.outcome.status == "ok"
    assert record.cost_usd == 3 * 9.0e-6
    while not stand_ins["goes"].stopped:
        await asyncio.sleep(0)
    await plane.fleet.stop()


async def test_a_chat_may_outlive_what_the_fleet_remembers_of_its_model() -> None:
    plane, stand_ins = await begin()
    stream = await plane.generate(chat(plane))
    reload(plane)
    plane.fleet.members.pop("goes")
    assert "".join([piece.text async for piece in stream.pieces]) == "goes says hi"
    stand_ins["goes"].running += 1
    await plane.fleet.stop()
    assert stand_ins["goes"].stopped
