from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from routing.decision.request_view import RequestAnalyzer
from routing.quality import DEFAULT_ROUTER
from services.dataplane.decision_log import DecisionLog
from services.routers.prompt_routers import PromptRouters
from tests.services.conftest import Rig
from turnout.catalog import Catalog
from turnout.errors import ArtifactInvalid, RunFailed
from turnout.types import Task


def chat(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], **more}


def copy_router(folder: Path, origin: str = "") -> Path:
    """The router that ships, at another place and, given an origin, another one by its digest."""
    shutil.copytree(DEFAULT_ROUTER, folder, dirs_exist_ok=True)
    card = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(json.dumps(card | {"origin": origin or card["origin"]}))
    return folder


def rig_with(make_rig: Callable[..., Rig], catalog: Catalog, routers: PromptRouters) -> Rig:
    """The rig's front door on a plane whose chats a trained router judges."""
    rig = make_rig()
    rig.use(routers, RequestAnalyzer(catalog, routers))
    return rig


async def settle(rig: Rig) -> None:
    await rig.plane.fleet.settled()


async def test_a_new_router_takes_over_and_a_bad_one_is_refused(
    make_rig: Callable[..., Rig], catalog: Catalog, tmp_path: Path
) -> None:
    folder = copy_router(tmp_path / "router")
    rig = rig_with(make_rig, catalog, PromptRouters(catalog, folder))
    await settle(rig)
    first = (await rig.client.get("/v1/router")).json()["routers"]["current"]["digest"]
    copy_router(folder, "another")
    reply = await rig.client.post("/v1/router/reload")
    second = reply.json()["routers"]["current"]["digest"]
    assert (reply.status_code, second != first) == (200, True)
    (folder / "heads.npz").write_bytes(b"broken")
    refused = await rig.client.post("/v1/router/reload")
    assert refused.status_code == 409
    told = refused.json()["routers"]["current"]
    assert told["digest"] == second
    assert "heads.npz" in told["problem"]
    answer = await rig.client.post("/v1/chat/completions", json=chat())
    record = await rig.client.get("/v1/decisions/" + answer.headers["x-turnout-decision"])
    told = record.json()["router"]
    assert (told["digest"], told["part"]) == (second, "current")
    assert told["by_prior"] == [each["model"] for each in record.json()["candidates"]]


def test_a_gateway_does_not_start_on_a_bad_router(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match=r"router\.json"):
        PromptRouters(catalog, tmp_path)


def test_a_change_is_noticed_once(catalog: Catalog, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    routers = PromptRouters(catalog, shadow=shadow)
    assert routers.shadow is None
    assert not routers.changed()
    copy_router(shadow)
    assert routers.changed()
    routers.reload()
    assert routers.shadow is not None
    assert not routers.changed()


class BadDisk(type(Path())):
    """A folder on a disk that fails once, when it is told to."""

    fails = False

    def read_bytes(self) -> bytes:
        if BadDisk.fails and self.name == "router.json":
            BadDisk.fails = False
            raise OSError("input/output error")
        return super().read_bytes()


def test_a_router_whose_read_broke_off_is_tried_again(catalog: Catalog, tmp_path: Path) -> None:
    folder = copy_router(BadDisk(tmp_path / "router"))
    routers = PromptRouters(catalog, folder)
    first = routers.parts["current"].digest
    copy_router(folder, "another")
    BadDisk.fails = True
    with pytest.raises(OSError, match="input/output"):
        routers.reload()
    assert routers.changed()
    routers.reload()
    assert routers.parts["current"].digest != first


async def test_a_shadow_decides_beside_and_is_never_served(
    make_rig: Callable[..., Rig], catalog: Catalog, tmp_path: Path
) -> None:
    shadow = copy_router(tmp_path / "shadow", "shadow")
    log = tmp_path / "log.jsonl"
    rig = make_rig(log=DecisionLog(log))
    routers = PromptRouters(catalog, shadow=shadow)
    rig.use(routers, RequestAnalyzer(catalog, routers))
    await settle(rig)
    names = []
    for index in range(20):
        reply = await rig.client.post("/v1/chat/completions", json=chat(f"why {index}?"))
        names.append(reply.headers["x-turnout-decision"])
    rig.plane.close()
    record = (await rig.client.get(f"/v1/decisions/{names[0]}")).json()
    assert record["shadow"]["agrees"] is True
    assert record["shadow"]["model"] == record["model"]
    assert rig.count("turnout_shadow_decisions_total", route="chat", agrees="true") == 20
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    shadowed = {line["decision_id"] for line in lines if line.get("shadow")}
    assert shadowed == set(names)


async def test_a_canary_that_fails_is_stopped_and_its_share_goes_to_the_old_one(
    make_rig: Callable[..., Rig], catalog: Catalog, tmp_path: Path
) -> None:
    canary = copy_router(tmp_path / "canary", "canary")
    routers = PromptRouters(catalog, canary=canary, share=0.5, seed=b"seed")
    rig = rig_with(make_rig, catalog, routers)
    await settle(rig)
    parts = []
    for index in range(200):
        session = f"s{index}"
        asked = await rig.client.post("/v1/route", json={"route": "chat", "inputs": chat(),
                                                         "session": session})  # fmt: skip
        part = (await rig.client.get("/v1/decisions/" + asked.json()["decision_id"])).json()
        broken = RunFailed("chat", "boom") if part["router"]["part"] == "canary" else None
        rig.backends["chat-small"].error = rig.backends["chat-large"].error = broken
        await rig.client.post("/v1/chat/completions", json=chat(routing={"session": session}))
        parts.append(part["router"]["part"])
        for member in rig.plane.fleet.members.values():
            member.breaker.succeeded()
    assert 5 < parts.count("canary") < 60
    assert "canary" not in parts[-100:]
    state = (await rig.client.get("/v1/router")).json()["canary"]
    assert (state["share"], state["stopped"]) == (0.0, "failed")
    assert rig.count("turnout_canary_share") == 0.0


async def test_feedback_that_is_sent_again_is_no_more_evidence(
    make_rig: Callable[..., Rig], catalog: Catalog, tmp_path: Path
) -> None:
    canary = copy_router(tmp_path / "canary", "canary")
    routers = PromptRouters(catalog, canary=canary, share=0.5, seed=b"seed")
    rig = rig_with(make_rig, catalog, routers)
    await settle(rig)
    for session in range(10):
        asked = chat(routing={"session": f"s{session}"})
        reply = await rig.client.post("/v1/chat/completions", json=asked)
        said = {"decision_id": reply.headers["x-turnout-decision"], "score": 0.0}
        for _ in range(50):
            await rig.client.post("/v1/feedback", json=said)
    tests = (await rig.client.get("/v1/router")).json()["canary"]["tests"]
    assert 1 <= tests["unhappy"]["pairs"] <= 5  # of ten requests, however often they were scored


async def test_feedback_alone_can_stop_a_canary(catalog: Catalog, tmp_path: Path) -> None:
    routers = PromptRouters(catalog, canary=copy_router(tmp_path / "canary", "c"), share=0.5)
    for _ in range(100):
        routers.canary.scored("canary", 0.1)
        routers.canary.scored("current", 0.9)
    assert routers.canary.worse == "unhappy"
    assert routers.share == 0.0
    copy_router(tmp_path / "canary", "better")
    routers.reload()
    assert routers.share == 0.5


async def test_models_without_a_head_are_named(
    make_rig: Callable[..., Rig], catalog: Catalog
) -> None:
    """A router that knows none of the route's models judges them by their priors: it says so."""
    rig = rig_with(make_rig, catalog, PromptRouters(catalog))
    told = (await rig.client.get("/v1/router")).json()["routers"]["current"]
    chats = [route for route in catalog.routes.values() if route.task is Task.CHAT]
    assert told["judged_by_prior"] == sorted({name for route in chats for name in route.candidates})
