"""A model elsewhere that is down when the gateway starts is taken in once it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from routing.latency import ModelLatency
from services.fleet.fleet import Fleet
from tests.services.conftest import StandIn
from turnout.catalog import Model
from turnout.catalog.reading import parse
from turnout.errors import LoadFailed
from turnout.types import Task

CATALOG = """version: 1
classes:
  interactive: {deadline_ms: 1000, priority: 1}
models:
  far:
    task: tabular
    placement: remote
    runner: {engine: open-inference, url: "http://127.0.0.1:9", model: far}
routes:
  r: {task: tabular, candidates: [far], latency_class: interactive}
"""


def make_fleet(backend: StandIn, sleep: Callable[[float], Awaitable[None]]) -> Fleet:
    def make(name: str, model: Model, latency: object) -> StandIn:
        assert isinstance(latency, ModelLatency)
        return backend

    backend.load_error = LoadFailed("far", "connection refused")
    return Fleet(parse(CATALOG, "test"), make, sleep=sleep)


async def test_it_is_tried_at_growing_pauses_until_it_answers() -> None:
    backend = StandIn("far", Task.TABULAR)
    pauses: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 9:
            backend.load_error = None
        await asyncio.sleep(0)

    fleet = make_fleet(backend, sleep)
    fleet.start()
    await fleet.settled()
    assert fleet.state("far").broken == "connection refused"
    async with asyncio.timeout(30.0):
        while not fleet.serves("far"):
            await asyncio.sleep(0)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    assert fleet.state("far").broken is None
    await fleet.stop()


async def test_stopping_ends_the_tries() -> None:
    ended = asyncio.Event()

    async def sleep(pause_s: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    fleet = make_fleet(StandIn("far", Task.TABULAR), sleep)
    fleet.start()
    await fleet.settled()
    await asyncio.sleep(0)
    async with asyncio.timeout(30.0):
        await fleet.stop()
        await ended.wait()
