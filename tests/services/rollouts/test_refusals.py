"""What a canary refuses or fails midway, seen from the caller and from the trial."""

from __future__ import annotations

import pytest

from tests.services.conftest import Rig
from tests.services.rollouts.conftest import CATALOG, ROW
from turnout.catalog import Catalog
from turnout.catalog.reading import parse
from turnout.errors import DeadlineUnreachable, InvalidRequest, QueueFull, TurnoutError

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def catalog() -> Catalog:
    text = CATALOG.replace("versions: {a: {}, b: {}}", "versions: {a: {}, b: {}}\n    canary: "
                           "{version: b, share: 0.5}")  # fmt: skip
    return parse(text, "test")


def tried(rig: Rig, name: str, version: str, part: str, ended: str) -> float:
    labels = {"model": name, "version": version, "part": part, "ended": ended}
    return rig.count("turnout_canary_requests_total", **labels)


async def test_what_only_the_canary_refuses_is_its_fault(rig: Rig) -> None:
    for name in ("ranker@2", "writer@b"):
        rig.backends[name].error = InvalidRequest("I want other inputs")
    for _ in range(60):
        assert (await rig.client.post("/v2/models/rank/infer", json=ROW)).status_code == 200
        assert (await rig.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert tried(rig, "ranker", "2", "canary", "failed") > 5
    assert tried(rig, "writer", "b", "canary", "failed") > 5


async def test_what_production_refuses_too_is_the_callers_fault(rig: Rig) -> None:
    for name in ("ranker@1", "ranker@2", "other"):
        rig.backends[name].error = InvalidRequest("no")
    for _ in range(60):
        assert (await rig.client.post("/v2/models/rank/infer", json=ROW)).status_code == 400
    trial = rig.plane.rollouts.trials["ranker"][1]
    assert trial.requests == {"production": 0, "canary": 0}


@pytest.mark.parametrize(
    ("error", "ended"),
    [(QueueFull("ranker", 9, 1.0), "failed"), (DeadlineUnreachable("late", retry_after_s=1), "ok")],
)
async def test_a_full_queue_is_a_fault_and_a_deadline_that_passed_is_not(
    rig: Rig, error: TurnoutError, ended: str
) -> None:
    rig.backends["ranker@2"].error = error
    for _ in range(60):
        assert (await rig.client.post("/v2/models/rank/infer", json=ROW)).status_code == 200
    failed = tried(rig, "ranker", "2", "canary", "failed")
    assert (failed > 3) is (ended == "failed")


async def test_a_generation_that_breaks_off_is_the_canarys_fault(rig: Rig) -> None:
    rig.backends["writer@b"].error = QueueFull("writer@b", 1, 1.0)
    rig.backends["writer@b"].after = 1
    statuses = {
        (await rig.client.post("/v1/chat/completions", json=CHAT)).status_code for _ in range(60)
    }
    assert statuses == {200, 429}  # its first words were out, so nobody could stand in
    assert tried(rig, "writer", "b", "canary", "failed") > 3
