from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.dataplane.factory import compose
from services.metrics.metrics import Metrics
from services.server.app import GatewayApp
from services.server.auth import TOKEN
from tests.services.conftest import behind
from turnout.catalog import load
from turnout.settings import Settings

CATALOG = """version: 1
classes:
  interactive: {deadline_ms: 10000, priority: 1}
models:
  stays: {task: tabular, runner: {engine: fake, latency_ms: 1}}
  changes: {task: tabular, runner: {engine: fake, latency_ms: 20}}
  goes: {task: tabular, runner: {engine: fake, latency_ms: 20}}
routes:
  r: {task: tabular, candidates: [stays, changes, goes], latency_class: interactive}
"""
NEW = CATALOG.replace("changes: {task: tabular, runner: {engine: fake, latency_ms: 20}}",
                      "changes: {task: tabular, runner: {engine: fake, latency_ms: 1}}").replace(
    "  goes: {task: tabular, runner: {engine: fake, latency_ms: 20}}",
    "  comes: {task: tabular, runner: {engine: fake}}").replace("goes]", "comes]")  # fmt: skip
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


CHATS = (
    CATALOG.replace(
        "routes:", "  {first}: {task: chat, runner: {engine: fake}}\n"
        "  {second}: {task: chat, runner: {engine: fake}}\nroutes:"
    ) + "  chat: {task: chat, candidates: [{first}, {second}], latency_class: interactive}\n"
)  # fmt: skip


def chats(first: str, second: str) -> str:
    """The catalog with a chat route of two models."""
    return CHATS.replace("{first}", first).replace("{second}", second)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    monkeypatch.setenv("TURNOUT_CATALOG", str(path))
    monkeypatch.delenv(TOKEN, raising=False)
    return path


@pytest.fixture
async def client(file: Path) -> AsyncIterator[httpx.AsyncClient]:
    plane = compose(load(file), Settings(file), Metrics(CollectorRegistry()))
    door = GatewayApp(lambda: plane, behind)
    plane.fleet.start()
    await plane.fleet.settled()
    transport = httpx.ASGITransport(app=door)
    async with httpx.AsyncClient(transport=transport, base_url="http://turnout") as opened:
        yield opened
    await plane.fleet.stop()


async def ask(client: httpx.AsyncClient, name: str) -> int:
    return (await client.post(f"/v2/models/{name}/infer", json=ROW)).status_code


async def test_a_reload_drops_no_request(client: httpx.AsyncClient, file: Path) -> None:
    names = ("stays", "changes", "goes")
    under_way = [asyncio.ensure_future(ask(client, n)) for _ in range(20) for n in names]
    while not (await client.get("/v2/models/goes")).json()["parameters"]["hits"]:
        await asyncio.sleep(0)
    file.write_text(NEW)
    reply = await client.post("/v1/catalog/reload")
    assert reply.json() == {"added": ["comes"], "changed": ["changes"], "removed": ["goes"]}
    assert set(await asyncio.gather(*under_way)) == {200}
    assert [await ask(client, n) for n in ("stays", "changes", "comes", "r")] == [200] * 4
    assert await ask(client, "goes") == 404
    listed = [entry["id"] for entry in (await client.get("/v1/models")).json()["data"]]
    assert "comes" in listed
    assert "goes" not in listed


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("version: 1\nclasses: 3\n", "catalog.yaml:2: classes"),
        (CATALOG.replace("engine: fake, latency_ms: 1}", "engine: fake}, placement: process"),
         "only a restart"),
        (CATALOG.replace("classes:", "gateway: {workers: 2}\nclasses:", 1), "gateway.workers"),
    ],
    ids=["broken", "process", "workers"],
)  # fmt: skip
async def test_a_bad_catalog_is_refused_and_the_old_one_stays(
    client: httpx.AsyncClient, file: Path, bad: str, why: str
) -> None:
    file.write_text(bad)
    reply = await client.post("/v1/catalog/reload")
    assert reply.status_code == 422
    assert why in reply.json()["error"]["message"]
    assert [await ask(client, n) for n in ("stays", "changes", "goes")] == [200] * 3


async def test_models_are_listed_loaded_unloaded_and_pinned(client: httpx.AsyncClient) -> None:
    async def states() -> dict[str, str]:
        index = await client.post("/v2/repository/index")
        return {row["name"]: row["state"] for row in index.json()}

    assert await states() == dict.fromkeys(("stays", "changes", "goes"), "READY")
    assert (await client.post("/v2/repository/models/goes/unload")).status_code == 200
    assert (await states())["goes"] == "UNAVAILABLE"
    only = await client.post("/v2/repository/index", json={"ready": True})
    assert len(only.json()) == 2
    assert await ask(client, "goes") == 503
    assert await ask(client, "r") == 200
    assert (await client.post("/v2/repository/models/goes/load")).status_code == 200
    assert await ask(client, "goes") == 200
    assert (await client.post("/v2/repository/models/goes/pin")).json() == {"pinned": True}
    assert (await client.get("/v2/models/goes")).json()["parameters"]["pinned"]
    wrong = await client.post("/v2/repository/models/goes/pin", json={"pinned": "yes"})
    assert wrong.status_code == 400
    assert (await client.post("/v2/repository/models/none/load")).status_code == 404


async def test_only_an_operator_may_change_what_is_served(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v2/repository/models/goes/unload"
    passed_on = await client.post(path, headers={"X-Forwarded-For": "203.0.113.9"})
    assert passed_on.status_code == 403
    assert TOKEN in passed_on.json()["error"]
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    transport.client = ("203.0.113.9", 1)
    assert (await client.post(path)).status_code == 403
    monkeypatch.setenv(TOKEN, "secret")
    assert (await client.post(path, headers={"authorization": "Bearer wrong"})).status_code == 403
    assert (await client.post(path, headers={"authorization": "Bearer secret"})).status_code == 200


async def test_only_an_operator_may_reload_the_router(client: httpx.AsyncClient) -> None:
    passed_on = {"X-Forwarded-For": "203.0.113.9"}
    assert (await client.post("/v1/router/reload", headers=passed_on)).status_code == 403
    assert (await client.post("/v1/router/reload")).status_code != 403


async def test_a_trained_router_judges_the_chat_models_that_a_reload_brings(
    client: httpx.AsyncClient, file: Path
) -> None:
    """First where there was no chat route to choose over, then where there was another."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    for names in (("one", "two"), ("two", "three")):
        file.write_text(chats(*names))
        assert (await client.post("/v1/catalog/reload")).status_code == 200
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        record = await client.get("/v1/decisions/" + answer.headers["x-turnout-decision"])
        assert record.json()["router"]["part"] == "current"
        assert {one["model"] for one in record.json()["candidates"]} == set(names)
