"""What runs beside the requests goes on after something it did not expect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.dataplane.decision_record import DecisionRecord
from services.dataplane.shadow_router import ShadowRouter
from services.service import ServiceInstance
from tests.services.conftest import Rig
from turnout.types import Generation, Message, Request, Task


class Half:
    """A router that finds every model half good."""

    def quality(self, prompt: str, models: list[str], *, fast: bool) -> dict[str, float]:
        del prompt, fast
        return dict.fromkeys(models, 0.5)


async def decided(rig: Rig) -> DecisionRecord:
    asked = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    reply = await rig.client.post("/v1/chat/completions", json=asked)
    record = rig.plane.log.get(reply.headers["x-turnout-decision"])
    assert record is not None
    return record


def request() -> Request:
    inputs = Generation((Message("user", "hi"),))
    return Request("r", "chat", Task.CHAT, inputs, "interactive", 0.0, 1.0)


async def test_the_shadow_goes_on_after_a_failure(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    record = await decided(rig)
    found: list[dict[str, Any]] = []

    def told(record: DecisionRecord, what: dict[str, Any]) -> None:
        found.append(what)
        if len(found) == 1:
            raise RuntimeError("surprise")

    shadow = ShadowRouter(Half, told)  # type: ignore[arg-type]
    for _ in range(3):
        shadow.offer(record, request())
    shadow.close()
    assert len(found) == 3
    assert "surprise" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_shadow_whose_thread_has_ended_still_closes(rig: Rig) -> None:
    record = await decided(rig)

    def told(record: DecisionRecord, what: dict[str, Any]) -> None:
        raise SystemExit

    shadow = ShadowRouter(Half, told)  # type: ignore[arg-type]
    shadow.offer(record, request())
    thread = shadow._thread
    assert thread is not None
    thread.join()
    while not shadow.dropped:
        shadow.offer(record, request())
    shadow.close()


async def test_a_line_that_cannot_be_made_costs_no_other(
    make_rig: Callable[..., Rig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = DecisionLog(tmp_path / "log.jsonl")
    rig = make_rig(log=log)
    await rig.plane.fleet.settled()
    record = await decided(rig)
    log.feedback(record.decision.id, {"what": object()})
    log.feedback(record.decision.id, {"score": 1.0})
    log.close()
    said = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["feedback"] for line in said if "feedback" in line] == [{"score": 1.0}]
    assert "could not be encoded" in caplog.text


async def test_a_full_disk_does_not_end_the_decision_log(
    make_rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    log = DecisionLog(Path("/dev/full"))
    rig = make_rig(log=log)
    await rig.plane.fleet.settled()
    await decided(rig)
    log.close()
    assert "1 lines of the decision log are lost" in caplog.text


class Beating(ServiceInstance):
    """An endpoint over a plane of the tests', whose watch fails."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.beats = 0
        self.watch = self  # type: ignore[assignment]

    def due(self) -> list[str]:
        self.beats += 1
        raise RuntimeError("surprise")


async def test_a_beat_that_fails_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Beating(rig.plane)
    await endpoint._update_once()
    await endpoint._update_once()
    assert endpoint.beats == 2
    assert caplog.text.count("surprise") >= 2
