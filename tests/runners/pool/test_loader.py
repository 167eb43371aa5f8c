"""Loads that take too long."""

from __future__ import annotations

import asyncio

import pytest

from runners.pool import Footprint, Slot
from tests.runners.pool.rig import BASE, Model, Rig, make_rig
from turnout.errors import LoadFailed

LIMIT_S = 0.02


async def hanging(sizes: dict[str, int], budget: int | None) -> tuple[Rig, asyncio.Event]:
    """A rig whose model ``slow`` has been given up while it loads, and what lets it come up."""
    rig = make_rig(sizes, budget, max_load_s=LIMIT_S)
    gate = rig.models["slow"].gate = asyncio.Event()
    waiting = [asyncio.ensure_future(rig.ask("slow", priority=1)) for _ in range(3)]
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, LoadFailed)
        assert "its load took over 0.02 s and was given up" in str(error)
    return rig, gate


async def turns(count: int) -> None:
    """Let what is due on the event loop happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_load_that_hangs_leaves_its_lane_to_others() -> None:
    rig = make_rig({"slow": 10, "other": 10}, 90, max_load_s=LIMIT_S)
    rig.models["slow"].gate = asyncio.Event()
    asked = [asyncio.ensure_future(rig.ask(name, priority=2)) for name in ("slow", "other")]
    async with asyncio.timeout(20.0):
        first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, LoadFailed)
    assert not isinstance(second, BaseException)
    assert rig.resident() == {"other"}
    await rig.pool.stop()


async def test_the_model_rests_with_its_reason_and_is_tried_again() -> None:
    rig, gate = await hanging({"slow": 10}, None)
    with pytest.raises(LoadFailed, match="given up"):
        await rig.ask("slow")
    assert rig.models["slow"].starts == 1
    gate.set()
    await turns(20)
    rig.machine.now_s += 10.1
    await rig.ask("slow")
    assert rig.pool.slots["slow"].why_not is None
    await rig.pool.stop()


async def test_what_comes_up_too_late_is_counted_until_then_and_closed() -> None:
    rig, gate = await hanging({"slow": 30, "a": 30, "b": 30}, 70)
    await rig.ask("a")
    await rig.ask("b")
    assert rig.resident() == {"b"}
    gate.set()
    while rig.models["slow"].active is None:
        await asyncio.sleep(0)
    while "slow" in rig.machine.loaded:
        await asyncio.sleep(0)
    assert rig.machine.peak <= BASE + 70
    await rig.ask("a")
    assert rig.resident() == {"a", "b"}
    await rig.pool.stop()


async def test_a_load_that_fails_too_late_is_counted_no_more() -> None:
    rig, gate = await hanging({"slow": 30, "a": 30, "b": 30}, 70)
    rig.models["slow"].error = LoadFailed("slow", "the disk is gone")
    gate.set()
    await turns(20)
    for name in ("a", "b"):
        await rig.ask(name)
    assert rig.resident() == {"a", "b"}
    await rig.pool.stop()


async def test_of_a_model_that_hangs_each_time_one_load_is_reserved() -> None:
    rig, gate = await hanging({"slow": 30, "a": 30}, 90)
    rig.pool.add(Slot("slow", lambda: late, Footprint(30), max_load_s=LIMIT_S))
    late = Model("slow", 30, rig.machine, gate=gate)
    for _ in range(3):
        with pytest.raises(LoadFailed, match="given up"):
            await rig.pool.load("slow")
    await rig.ask("a")
    assert rig.resident() == {"a"}
    await rig.pool.stop()
