"""What an operator does is done in every worker, or the answer says where it was not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.dataplane.admin import AdminOperations
from services.process.peers import Answers, Peers
from services.rollouts.steps import promote
from tests.services.conftest import Rig
from tests.services.rollouts.conftest import CATALOG
from turnout.catalog import Catalog
from turnout.catalog.reading import parse
from turnout.errors import CapacityError, UnknownModel

Join = Callable[[Answers], Awaitable[Peers]]


@pytest.fixture
def catalog() -> Catalog:
    return parse(CATALOG, "test")


@pytest.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    made: list[Peers] = []

    async def join(answers: Answers) -> Peers:
        made.append(Peers(tmp_path / "peers", answers))
        await made[-1].start()
        return made[-1]

    yield join
    for peers in made:
        await peers.stop()


async def worker(make_rig: Callable[..., Rig], join: Join) -> Rig:
    rig = make_rig()
    await rig.plane.fleet.settled()
    rig.plane.peers = await join(AdminOperations(rig.plane).answers())
    return rig


async def test_a_name_means_the_same_version_in_every_worker(
    make_rig: Callable[..., Rig], join: Join
) -> None:
    first, second = [await worker(make_rig, join) for _ in range(2)]
    await first.plane.rollouts.change("ranker", promote("2", "by a test"))
    await AdminOperations(first.plane).do("unload", "ranker")
    for rig in (first, second):
        parked = [name for name, slot in rig.plane.fleet.pool.slots.items() if slot.parked]
        assert parked == ["ranker@2"]
    with pytest.raises(UnknownModel):
        await AdminOperations(first.plane).do("unload", "nobody")


async def test_a_worker_that_does_not_answer_is_a_problem(
    make_rig: Callable[..., Rig], join: Join, tmp_path: Path
) -> None:
    rig = await worker(make_rig, join)
    operations = AdminOperations(rig.plane, patience_s=0.05)
    (tmp_path / "peers" / "killed.000000").touch()  # nobody listens there: no problem
    assert await operations.do("unload", "other") == {}

    async def never(asked: Any) -> None:
        await asyncio.Event().wait()

    def cannot(asked: Any) -> None:
        raise ValueError("no")

    for answer in (never, cannot):
        silent = await join({"operate": answer})
        with pytest.raises(CapacityError, match=r"not in every worker: worker .* did not answer"):
            await operations.do("load", "other")
        await silent.stop()


async def test_a_worker_that_fails_in_whatever_way_says_so(
    make_rig: Callable[..., Rig], join: Join
) -> None:
    await worker(make_rig, join)
    asking = await join({})
    answers, silent = await asking.ask_all("operate", ["pin", 5])
    assert silent == []
    assert answers[0]["problem"].startswith("TypeError")
