"""A model in a process beside its gateway runs what it is sent: no decision, log or count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from routing.decision.request_view import RequestAnalyzer
from services.dataplane.decision_log import DecisionLog
from services.dataplane.single_model import SingleModelPlane
from services.fleet.fleet import Fleet
from services.metrics.metrics import Metrics
from tests.services.conftest import StandIn
from turnout.catalog.reading import parse
from turnout.errors import Draining, RunFailed, UnknownModel, WrongTask
from turnout.types import Generation, Message, Request, Task

CATALOG = """version: 1
classes:
  interactive: {{deadline_ms: 60000, priority: 1}}
models:
  m: {{task: {task}, runner: {{engine: fake}}}}
routes:
  r: {{task: {task}, candidates: [m], latency_class: interactive}}
"""
ROWS = {"features": np.zeros((1, 15), np.float32)}
CHAT = Generation((Message("user", "hello"),))


class Made:
    def __init__(self, task: Task) -> None:
        catalog = parse(CATALOG.format(task=task.value), "test")
        self.backend = StandIn("m", task)
        self.registry, self.log = CollectorRegistry(), DecisionLog()
        fleet = Fleet(catalog, lambda name, model, latency: self.backend)
        metrics = Metrics(self.registry)
        self.plane = SingleModelPlane(
            catalog, fleet, RequestAnalyzer(catalog), metrics, self.log, lambda: 1.0
        )

    def request(self) -> Request:
        chat = self.backend.task is Task.CHAT
        inputs = CHAT if chat else ROWS
        return Request("id", "m", self.backend.task, inputs, "interactive", 0.0, 60.0)

    def counted(self) -> float:
        self.plane.measure()
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name in ("turnout_requests_total", "turnout_refused_total")
        )


@pytest.fixture(params=[Task.TABULAR, Task.CHAT])
async def made(request: pytest.FixtureRequest) -> AsyncIterator[Made]:
    one = Made(request.param)
    one.plane.fleet.start()
    await one.plane.fleet.settled()
    yield one
    await one.plane.fleet.stop()


async def answered(made: Made) -> str:
    request = made.request()
    if request.task is not Task.CHAT:
        return (await made.plane.infer(request)).model
    stream = await made.plane.generate(request)
    assert "".join([piece.text async for piece in stream.pieces])
    return stream.model


async def test_it_answers_and_keeps_nothing_of_it(made: Made) -> None:
    assert await answered(made) == "m"
    assert made.log.get("id") is None
    assert made.counted() == 0


async def test_the_models_error_is_the_answer(made: Made) -> None:
    made.backend.error = RunFailed("m", "broken")
    with pytest.raises(RunFailed, match="broken"):
        await answered(made)
    made.plane.turned_away("queue_full")
    assert made.counted() == 0


async def test_nothing_new_is_taken_while_it_drains(made: Made) -> None:
    made.plane.draining = True
    with pytest.raises(Draining):
        await answered(made)


async def test_it_learns_how_fast_its_model_is(made: Made) -> None:
    latency = made.plane.fleet.members["m"].latency
    for _ in range(3):
        await answered(made)
    assert latency.observations == 3


async def test_a_request_for_another_model_is_refused(made: Made) -> None:
    request = replace(made.request(), target="another")
    with pytest.raises(UnknownModel):
        await made.plane.infer(request)
    with pytest.raises(UnknownModel):
        await made.plane.generate(request)


async def test_a_request_for_another_task_is_refused(made: Made) -> None:
    with pytest.raises(WrongTask):
        await made.plane.infer(replace(made.request(), task=Task.EMBED))


async def test_a_failing_model_is_out_of_service_until_its_breaker_closes(made: Made) -> None:
    made.backend.error = RunFailed("m", "broken")
    for _ in range(50):
        with pytest.raises(RunFailed):
            await answered(made)
    assert made.plane.fleet.broken(made.plane.fleet.members["m"]) is not None
