"""Aliases moved by an operator, and where they are after a restart, a reload or another's move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from services.dataplane.catalog_reload import reload_catalog
from services.rollouts.aliases import Aliases
from services.rollouts.database_store import DatabaseAliasStore
from services.rollouts.store import AliasStore, MemoryAliasStore, Rows
from tests.services.rollouts.conftest import CATALOG, Serve
from turnout.errors import ConfigError


@pytest.fixture
def book(url: str) -> Callable[[], AliasStore]:
    return lambda: DatabaseAliasStore(url)


async def test_promote_and_roll_back_step_by_step(serve: Serve) -> None:
    gateway = await serve()
    promoted = (await gateway.move("promote")).json()
    assert (promoted["production"], promoted["previous"], promoted["canary"]) == ("2", "1", None)
    assert await gateway.answered(5) == {"ranker@2": 5}
    assert (await gateway.move("canary", version=3, share=0.5)).json()["canary"]["share"] == 0.5
    assert (await gateway.answered(60)).keys() == {"ranker@2", "ranker@3"}
    taken = (await gateway.move("rollback")).json()
    assert (taken["production"], taken["canary"], taken["taken_back"]) == ("2", None, "3")
    slower = await gateway.move("rollback")  # meant the canary, maybe
    assert slower.status_code == 400
    assert "version 3 is taken back already (by an operator)" in slower.json()["error"]
    back = (await gateway.move("rollback", production=True)).json()
    assert (back["production"], back["previous"]) == ("1", None)
    assert (back["taken_back"], back["taken_back_why"]) == ("3", "by an operator")
    assert await gateway.answered(5) == {"ranker@1": 5}
    listed = (await gateway.client.get("/v2/models/ranker@3")).json()["parameters"]
    assert (listed["verdict"], listed["verdict_why"]) == ("taken back", "by an operator")
    nothing = await gateway.move("rollback")
    assert nothing.status_code == 400
    assert "nothing to roll back" in nothing.json()["error"]


@pytest.mark.parametrize(
    ("verb", "body", "why"),
    [
        ("promote", {"version": "9"}, "no version '9'; there are 1, 2, 3"),
        ("promote", {"version": "1"}, "production already"),
        ("promote", {"version": True}, "version must be text"),
        ("promote", {"share": 0.1}, "unknown key share"),
        ("canary", {}, "version is missing"),
        ("canary", {"version": "1"}, "is production"),
        ("canary", {"version": "2", "share": 0.7}, "share: Input should be less than or equal"),
        ("canary", {"version": "2", "share": "much"}, "share must be a number"),
        ("rollback", {"version": "1"}, "unknown key version"),
        ("rollback", {"production": "yes"}, "production must be true or false"),
    ],
)
async def test_a_step_that_cannot_be_is_refused_and_nothing_moves(
    serve: Serve, verb: str, body: dict[str, object], why: str
) -> None:
    gateway = await serve()
    before = gateway.plane.rollouts.state("ranker")
    reply = await gateway.move(verb, **body)
    assert reply.status_code == 400
    assert why in reply.json()["error"]
    assert gateway.plane.rollouts.state("ranker") == before


async def test_a_version_that_cannot_be_loaded_is_not_promoted(serve: Serve) -> None:
    text = CATALOG.replace("      3: {}", "      3: {runner: {engine: fake, fail: load}}")
    gateway = await serve(text)
    reply = await gateway.move("promote", version="3")
    assert reply.status_code == 503
    assert "fail: load" in reply.json()["error"]
    assert await gateway.answered(5, "careful") == {"ranker@1": 5}


async def test_only_an_operator_moves_an_alias(serve: Serve) -> None:
    gateway = await serve()
    for verb in ("canary", "promote", "rollback"):
        passed_on = await gateway.client.post(
            f"/v2/repository/models/ranker/{verb}", headers={"X-Forwarded-For": "203.0.113.9"}
        )
        assert passed_on.status_code == 403


async def test_requests_under_way_finish_where_they_began(serve: Serve) -> None:
    text = CATALOG.replace("runner: {engine: fake}", "runner: {engine: fake, latency_ms: 30}", 1)
    gateway = await serve(text)
    under_way = [asyncio.ensure_future(gateway.ask("careful")) for _ in range(10)]
    while not gateway.plane.fleet.members["ranker@1"].at_work:
        await asyncio.sleep(0)
    assert (await gateway.move("promote", version="3")).status_code == 200
    replies = await asyncio.gather(*under_way)
    assert {reply.headers["x-turnout-model"] for reply in replies} == {"ranker@1"}
    assert await gateway.answered(3, "careful") == {"ranker@3": 3}


async def test_versions_and_aliases_are_shown(serve: Serve) -> None:
    gateway = await serve()
    shown = (await gateway.client.get("/v2/models/ranker")).json()
    assert (shown["name"], shown["versions"]) == ("ranker", ["1", "2", "3"])
    assert shown["parameters"]["alias"] == "production"
    second = (await gateway.client.get("/v2/models/ranker/versions/2")).json()["parameters"]
    assert (second["alias"], second["share"], second["verdict"]) == ("canary", 0.4, "watching")
    assert (await gateway.client.get("/v2/models/ranker/versions/3/ready")).status_code == 200
    assert (await gateway.client.get("/v2/models/ranker/versions/9/ready")).status_code == 404
    assert (await gateway.client.get("/v2/models/ranker/versions/9")).status_code == 404
    index = (await gateway.client.post("/v2/repository/index")).json()
    rows = [(row["name"], row["version"]) for row in index if row["name"] == "ranker"]
    assert rows == [("ranker", "1"), ("ranker", "2"), ("ranker", "3")]
    names = [one["id"] for one in (await gateway.client.get("/v1/models")).json()["data"]]
    assert {"ranker", "ranker@1", "writer", "writer@b"} <= set(names)
    reply = await gateway.ask("ranker/versions/3")
    assert (reply.json()["model_name"], reply.json()["model_version"]) == ("ranker", "3")
    aliased = await gateway.ask("ranker/versions/canary")
    assert aliased.json()["model_version"] == "2"
    share = {"model": "ranker", "version": "1"}
    assert gateway.count("turnout_version_share", **share) == pytest.approx(0.6)
    third = {"model": "ranker", "version": "3"}
    assert gateway.count("turnout_version_seconds_count", **third) == 1
    assert gateway.count("turnout_model_loads_total", model="ranker@3") == 1


async def test_where_the_aliases_are_outlives_a_restart(
    serve: Serve, book: Callable[[], AliasStore]
) -> None:
    first = await serve(book=book)
    assert (await first.move("promote")).status_code == 200
    assert (await first.move("canary", version="3", share=0.25)).status_code == 200
    second = await serve(book=book)
    state = second.plane.rollouts.state("ranker")
    assert (state["production"], state["canary"]["version"], state["canary"]["share"]) == (
        "2", "3", 0.25,
    )  # fmt: skip
    assert await second.answered(5, "careful") == {"ranker@2": 5}


async def test_every_worker_follows_what_one_was_told(
    serve: Serve, book: Callable[[], AliasStore]
) -> None:
    workers = [await serve(book=book) for _ in range(2)]
    assert (await workers[0].move("promote")).status_code == 200
    await workers[1].plane.rollouts.beat()
    assert await workers[1].answered(5) == {"ranker@2": 5}
    told = await asyncio.gather(*(worker.move("rollback") for worker in workers))
    assert sorted(reply.status_code for reply in told) == [200, 400]  # one was first


async def test_an_edit_of_the_catalog_is_the_last_word(
    serve: Serve, book: Callable[[], AliasStore]
) -> None:
    first = await serve(book=book)
    await first.move("promote")
    edited = CATALOG.replace("canary: {version: 2, share: 0.4}", "canary: {version: 3}")
    second = await serve(edited, book=book)
    state = second.plane.rollouts.state("ranker")
    assert (state["production"], state["canary"]["version"]) == ("1", "3")
    await first.plane.rollouts.beat()
    assert first.plane.rollouts.state("ranker")["production"] == "2"  # another catalog's word
    third = await serve(book=book)  # the old text again: nothing of before comes back
    assert third.plane.rollouts.state("ranker")["production"] == "1"


async def test_an_edit_elsewhere_leaves_the_aliases(
    serve: Serve, book: Callable[[], AliasStore], tmp_path: Path
) -> None:
    gateway = await serve(book=book)
    await gateway.move("promote")
    file = tmp_path / "catalog.yaml"
    file.write_text(CATALOG.replace("prior: 0.2", "prior: 0.3"))
    reload_catalog(gateway.plane, file)
    assert await gateway.answered(5) == {"ranker@2": 5}
    file.write_text(CATALOG.replace("share: 0.4", "share: 0.3"))
    reload_catalog(gateway.plane, file)
    assert gateway.plane.rollouts.state("ranker")["production"] == "1"
    await gateway.plane.rollouts.beat()
    assert (await serve(file.read_text(), book=book)).plane.rollouts.state("ranker")[
        "production"
    ] == "1"


class Troubled(MemoryAliasStore):
    """A book that cannot be read or written until it can, or takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.full = False
        self.gate: asyncio.Event | None = None
        self.waiting = 0

    async def begin(self, written: Rows) -> Rows:
        await self._trouble()
        return await super().begin(written)

    async def read(self) -> Rows:
        rows = await super().read()
        await self._trouble()
        return rows

    async def change(
        self, name: str, basis: str, now: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        await self._trouble()
        if self.full:
            raise ConfigError("the database cannot be written")
        return await super().change(name, basis, now, step)

    async def _trouble(self) -> None:
        if self.gate is not None:
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        if self.down:
            raise ConfigError("the database is down")


async def test_no_canary_is_served_before_it_is_known_that_none_was_taken_back(
    serve: Serve,
) -> None:
    book = Troubled()
    book.down = True
    gateway = await serve(book=lambda: book)
    assert await gateway.answered(30) == {"ranker@1": 30}
    assert "down" in gateway.plane.rollouts.state("ranker")["problem"]
    refused = await gateway.move("promote")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    book.down = False
    await gateway.plane.rollouts.beat()
    assert (await gateway.answered(60)).keys() == {"ranker@1", "ranker@2"}
    assert gateway.plane.rollouts.state("ranker")["problem"] is None


async def test_a_book_that_hangs_keeps_nobody_from_being_served(serve: Serve) -> None:
    gateway = await serve()
    book = Troubled()
    book.gate = asyncio.Event()
    await gateway.plane.rollouts.open(lambda: book, patience_s=0.0)
    assert await gateway.answered(20) == {"ranker@1": 20}
    book.gate.set()
    await gateway.plane.rollouts.beat()
    assert (await gateway.answered(60)).keys() == {"ranker@1", "ranker@2"}


async def test_a_book_that_hangs_keeps_no_operator_waiting(serve: Serve) -> None:
    book = Troubled()
    gateway = await serve(book=lambda: book)
    book.gate = asyncio.Event()
    await gateway.plane.rollouts.open(lambda: book, patience_s=0.0, limit_s=0.05)
    async with asyncio.timeout(30.0):
        refused = await gateway.move("rollback")
        await gateway.plane.rollouts.beat()
    assert refused.status_code == 503
    assert "has not answered for 0.05 s" in refused.json()["error"]
    assert "has not answered" in gateway.plane.rollouts.state("ranker")["problem"]
    assert gateway.plane.rollouts.state("ranker")["canary"]["version"] == "2"


async def test_closing_waits_for_no_book_that_hangs(serve: Serve) -> None:
    book = Troubled()
    gateway = await serve()
    book.gate = asyncio.Event()
    await gateway.plane.rollouts.open(lambda: book, patience_s=0.0)
    while not book.waiting:
        await asyncio.sleep(0)
    await gateway.plane.rollouts.close()
    assert book.waiting == 0


async def test_a_reading_that_began_before_a_change_does_not_undo_it(serve: Serve) -> None:
    book = Troubled()
    gateway = await serve(book=lambda: book)
    await gateway.move("canary", version="3")
    book.gate = asyncio.Event()
    reading = asyncio.ensure_future(gateway.plane.rollouts.beat())
    moving = asyncio.ensure_future(gateway.move("promote"))
    await asyncio.sleep(0)
    book.gate.set()
    await asyncio.gather(reading, moving)
    assert gateway.plane.rollouts.state("ranker")["production"] == "3"


async def test_a_canary_that_cannot_be_taken_back_yet_is_counted_once(serve: Serve) -> None:
    book = Troubled()
    gateway = await serve(book=lambda: book)
    trial = gateway.plane.rollouts.trials["ranker"][1]
    while trial.worse is None:
        for part in ("canary", "production"):
            trial.ended(part, failed=part == "canary", late=None, took_s=None)
    taken = {"model": "ranker", "version": "2", "why": "failed"}
    book.full = True
    for _ in range(3):
        await gateway.plane.rollouts.beat()
    assert gateway.count("turnout_canary_taken_back_total", **taken) == 0
    book.full = False
    for _ in range(3):
        await gateway.plane.rollouts.beat()
    assert gateway.count("turnout_canary_taken_back_total", **taken) == 1
    assert gateway.count("turnout_canary_verdict", model="ranker", version="2") == -1


async def test_another_share_keeps_the_evidence_and_another_try_begins_anew(serve: Serve) -> None:
    gateway = await serve()
    await gateway.answered(20)
    await gateway.move("canary", version="2", share=0.1)
    assert sum(gateway.plane.rollouts.state("ranker")["trial"]["requests"].values()) == 20
    book = gateway.plane.rollouts
    await gateway.move("rollback")
    await gateway.move("canary", version="2", share=0.4)
    assert sum(book.state("ranker")["trial"]["requests"].values()) == 0


async def test_a_try_that_another_worker_began_anew_is_another_trial_here_too(
    serve: Serve,
) -> None:
    shared = MemoryAliasStore()
    first, second = [await serve(book=lambda: shared) for _ in range(2)]
    await second.answered(20)
    await first.move("rollback")
    await first.move("canary", version="2", share=0.4)  # the second never saw it gone
    await second.plane.rollouts.beat()
    assert sum(second.plane.rollouts.state("ranker")["trial"]["requests"].values()) == 0


async def test_a_version_that_is_built_afresh_is_on_trial_afresh(
    serve: Serve, tmp_path: Path
) -> None:
    gateway = await serve()
    await gateway.answered(20)
    file = tmp_path / "catalog.yaml"
    file.write_text(
        CATALOG.replace("      2: {}", "      2: {runner: {engine: fake, strict: true}}")
    )
    reload_catalog(gateway.plane, file)
    assert sum(gateway.plane.rollouts.state("ranker")["trial"]["requests"].values()) == 0


async def test_a_version_is_named_beside_its_model(serve: Serve) -> None:
    gateway = await serve()
    reply = await gateway.move("promote", "ranker@2")
    assert reply.status_code == 400
    assert "name the model, 'ranker'" in reply.json()["error"]
