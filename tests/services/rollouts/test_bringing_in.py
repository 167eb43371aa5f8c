"""A version that an alias comes to mean can answer, in every worker, or the alias stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.dataplane.catalog_reload import reload_catalog
from services.rollouts.store import MemoryAliasStore
from tests.services.rollouts.conftest import CATALOG, ROW, Serve

BROKEN = "{runner: {engine: fake, fail: load}}"
FAR = (
    "{placement: remote, runner: {engine: open-inference, url: 'http://127.0.0.1:9', model: far, "
    "timeout_s: 0.3}}"
)


async def test_a_rollback_loads_what_an_operator_had_unloaded(serve: Serve) -> None:
    gateway = await serve()
    assert (await gateway.move("promote")).status_code == 200
    assert (await gateway.move("unload", "ranker@1")).status_code == 200
    assert (await gateway.move("rollback")).status_code == 200
    assert await gateway.answered(3, "careful") == {"ranker@1": 3}


@pytest.mark.parametrize("verb", ["promote", "canary"])
async def test_an_unload_of_before_holds_in_no_worker(serve: Serve, verb: str) -> None:
    book = MemoryAliasStore()
    workers = [await serve(book=lambda: book) for _ in range(2)]
    for worker in workers:
        assert (await worker.move("unload", "ranker@3")).status_code == 200
    assert (await workers[0].move(verb, version="3")).status_code == 200
    await workers[1].plane.rollouts.beat()
    for worker in workers:
        assert await worker.answered(3, "ranker@3") == {"ranker@3": 3}


async def test_the_catalogs_word_undoes_an_unload_too(serve: Serve, tmp_path: Path) -> None:
    gateway = await serve()
    assert (await gateway.move("unload", "ranker@3")).status_code == 200
    file = tmp_path / "catalog.yaml"
    file.write_text(CATALOG.replace("production: 1", "production: 3"))
    reload_catalog(gateway.plane, file)
    assert await gateway.answered(3, "careful") == {"ranker@3": 3}


async def test_an_unload_of_production_holds_while_no_alias_moves(serve: Serve) -> None:
    gateway = await serve()
    assert (await gateway.move("unload", "ranker@1")).status_code == 200
    await gateway.plane.rollouts.beat()
    assert (await gateway.move("canary", version="3")).status_code == 200
    refused = await gateway.client.post("/v2/models/ranker@1/infer", json=ROW)
    assert refused.status_code == 503
    assert "unloaded by an operator" in refused.text


@pytest.mark.parametrize(
    ("version", "broken", "why"),
    [("2", BROKEN, "fail: load"), ("2", FAR, "127.0.0.1:9"), ("3", FAR, "127.0.0.1:9")],
    ids=["canary-that-fails-to-load", "canary-out-of-reach", "version-out-of-reach"],
)
async def test_what_cannot_answer_is_not_promoted(
    serve: Serve, version: str, broken: str, why: str
) -> None:
    gateway = await serve(CATALOG.replace(f"      {version}: {{}}", f"      {version}: {broken}"))
    named = {} if version == "2" else {"version": version}
    reply = await gateway.move("promote", **named)
    assert reply.status_code == 503
    assert why in reply.json()["error"]
    assert await gateway.answered(3, "careful") == {"ranker@1": 3}


async def test_what_cannot_answer_is_not_rolled_back_to(serve: Serve) -> None:
    text = CATALOG.replace("1: {cost: {usd_per_request: 0.001}}", f"1: {BROKEN}")
    gateway = await serve(text)
    assert (await gateway.move("promote")).status_code == 200
    reply = await gateway.move("rollback")
    assert reply.status_code == 503
    assert "fail: load" in reply.json()["error"]
    assert await gateway.answered(3, "careful") == {"ranker@2": 3}


async def test_a_version_is_made_ready_that_another_worker_left_to_be_rolled_back_to(
    serve: Serve,
) -> None:
    book = MemoryAliasStore()
    first, second = [await serve(book=lambda: book) for _ in range(2)]
    assert (await first.move("promote")).status_code == 200
    assert (await second.move("unload", "ranker@1")).status_code == 200
    assert (await second.move("rollback")).status_code == 200  # it had not read of the promotion
    assert await second.answered(3, "careful") == {"ranker@1": 3}
