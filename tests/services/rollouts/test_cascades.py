"""A canary whose unsure answers go on to a better model is tried like any other."""

from __future__ import annotations

import pytest

from tests.services.conftest import Rig
from turnout.catalog import Catalog
from turnout.catalog.reading import parse

CASCADE = """version: 1
classes:
  patient: {deadline_ms: 60000, priority: 1, infeasible: queue}
models:
  writer:
    task: chat
    runner: {engine: fake}
    quality: {prior: 0.4}
    versions: {a: {}, b: {}}
    production: a
    canary: {version: b, share: 0.5}
  better: {task: chat, runner: {engine: fake}, quality: {prior: 0.9}, cost: {usd_per_request: 1}}
routes:
  chat:
    task: chat
    candidates: [writer, better]
    latency_class: patient
    policy: cascade
    cascade: {threshold: 0.5}
"""


@pytest.fixture
def catalog() -> Catalog:
    return parse(CASCADE, "test")


async def test_an_answer_that_goes_on_counts_in_time_as_it_does_late(rig: Rig) -> None:
    for version in ("a", "b"):
        rig.backends[f"writer@{version}"].logprob = -2.0
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(40):
        reply = await rig.client.post("/v1/chat/completions", json=body)
        assert reply.headers["x-turnout-model"] == "better"
    trial = rig.plane.rollouts.trials["writer"][1]
    assert sum(trial.requests.values()) == 40
    assert trial.requests["canary"] > 0
    tests = trial.state()["tests"]
    assert tests["failed"]["pairs"] == tests["late"]["pairs"] > 0
    assert tests["slow"]["pairs"] == 0  # the time is another model's, too
