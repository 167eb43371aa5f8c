from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.pool import Footprint, Slot
from runners.pool.eviction import by_age
from tests.runners.pool.rig import BASE, Model, make_rig
from turnout.errors import DeadlineUnreachable, LoadFailed, OverMemoryBudget, RunFailed

sizes = st.lists(st.integers(1, 40), min_size=2, max_size=8)
asks = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(sizes, asks, st.integers(40, 90))
def test_whatever_is_asked_the_budget_holds_and_everyone_is_answered(
    taken: list[int], asked: list[tuple[int, int]], budget: int
) -> None:
    async def run() -> None:
        rig = make_rig({f"m{i}": size for i, size in enumerate(taken)}, budget)
        answers = []
        for step, (which, priority) in enumerate(asked):
            rig.machine.now_s += 0.1
            answers.append(asyncio.ensure_future(rig.ask(f"m{which % len(taken)}", priority)))
            if step % 3 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*answers)
        assert rig.machine.peak <= BASE + budget
        await rig.pool.stop()
        assert not rig.machine.loaded

    asyncio.run(run())


async def test_many_who_ask_share_one_load() -> None:
    rig = make_rig({"a": 10}, None)
    await asyncio.gather(*(rig.ask("a") for _ in range(20)))
    assert rig.models["a"].starts == 1
    slot = rig.pool.slots["a"]
    assert (slot.misses, slot.loads, slot.in_flight) == (20, 1, 0)
    await rig.ask("a")
    assert slot.hits == 1
    await rig.pool.stop()


async def test_pinned_stays_and_work_in_flight_stays() -> None:
    rig = make_rig({"pinned": 30, "busy": 30, "idle": 30, "new": 30}, 90, pinned=("pinned",))
    for name in ("pinned", "busy", "idle"):
        await rig.ask(name)
    rig.models["busy"].busy = asyncio.Event()
    working = asyncio.ensure_future(rig.ask("busy"))
    await asyncio.sleep(0)
    await rig.ask("new", priority=2)
    assert rig.resident() == {"pinned", "busy", "new"}
    rig.models["busy"].busy.set()
    await working
    await rig.pool.stop()


async def test_what_waits_for_room_goes_on_when_work_in_flight_ends() -> None:
    rig = make_rig({"busy": 30, "new": 30}, 40)
    await rig.ask("busy")
    rig.models["busy"].busy = asyncio.Event()
    working = asyncio.ensure_future(rig.ask("busy"))
    waiting = asyncio.ensure_future(rig.ask("new"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert rig.resident() == {"busy"}
    rig.models["busy"].busy.set()
    await asyncio.gather(working, waiting)
    assert rig.resident() == {"new"}
    await rig.pool.stop()


async def test_a_request_waits_for_a_load_no_longer_than_it_may() -> None:
    rig = make_rig({"a": 10}, None)
    rig.models["a"].gate = asyncio.Event()
    with pytest.raises(DeadlineUnreachable, match="loading"):
        await rig.ask("a", deadline_s=0.01)
    rig.models["a"].gate.set()
    await rig.ask("a")
    assert rig.models["a"].starts == 1
    await rig.pool.stop()


async def test_what_can_never_fit_is_refused_by_name_and_with_the_numbers() -> None:
    mib = 1024**2
    rig = make_rig({"small": 30 * mib, "big": 200 * mib}, 90 * mib, pinned=("small",))
    assert "200 MiB" in (rig.pool.slots["big"].why_not or "")
    with pytest.raises(OverMemoryBudget, match="'big'"):
        await rig.ask("big")
    await rig.ask("small")
    await rig.pool.stop()


async def test_what_a_model_takes_is_measured_and_corrects_the_estimate() -> None:
    rig = make_rig({"a": 30, "b": 30, "c": 30}, 95, estimates={"a": 90, "b": 90, "c": 1})
    await rig.ask("a")
    assert rig.pool.slots["a"].footprint.resident_bytes == 30
    await rig.ask("b")  # believed to need more than there is beside a
    await rig.ask("c")
    await rig.ask("b")
    await rig.ask("a")
    assert rig.resident() == {"a", "b", "c"}
    await rig.pool.stop()


async def test_memory_that_grows_beside_the_models_is_made_good() -> None:
    rig = make_rig({"a": 30, "b": 30}, 70)
    await rig.ask("a", priority=0)
    await rig.ask("b", priority=2)
    rig.machine.loaded["scratch"] = 20
    await rig.pool.watch()
    assert rig.resident() == {"a"}
    await rig.pool.stop()


async def test_an_evicted_model_that_is_worth_more_comes_back_by_itself() -> None:
    rig = make_rig({"urgent": 30, "bulk": 30}, 40)
    for _ in range(50):
        await rig.ask("urgent", priority=0)
    await rig.ask("bulk", priority=2)
    assert rig.resident() == {"bulk"}
    await rig.pool.watch()
    assert rig.resident() == {"urgent"}
    await rig.pool.watch()
    assert rig.resident() == {"urgent"}
    await rig.pool.stop()


async def test_a_load_that_fails_is_told_and_not_tried_at_once_again() -> None:
    rig = make_rig({"a": 10}, None)
    rig.models["a"].error = RunFailed("a", "model.onnx is corrupt")
    for _ in range(3):
        with pytest.raises((LoadFailed, RunFailed), match="corrupt"):
            await rig.ask("a")
    assert rig.models["a"].starts == 1
    rig.models["a"].error = None
    rig.machine.now_s += 11.0
    await rig.ask("a")
    assert rig.pool.slots["a"].why_not is None
    await rig.pool.stop()


async def test_urgent_loads_pass_what_waits_and_have_a_lane_of_their_own() -> None:
    rig = make_rig({"slow": 10, "bulk": 10, "urgent": 10}, 90)
    gate = rig.models["slow"].gate = asyncio.Event()
    waits = [asyncio.ensure_future(rig.ask(name, priority=2)) for name in ("slow", "bulk")]
    await asyncio.sleep(0)
    await rig.ask("urgent", priority=0)
    assert rig.resident() == {"urgent"}
    gate.set()
    await asyncio.gather(*waits)
    await rig.pool.stop()


async def test_what_an_operator_unloads_stays_so_until_it_is_loaded() -> None:
    rig = make_rig({"a": 10}, None)
    await rig.ask("a")
    await rig.pool.unload("a")
    await rig.pool.watch()
    assert rig.resident() == set()
    with pytest.raises(LoadFailed, match="operator"):
        await rig.ask("a")
    await rig.pool.load("a")
    await rig.ask("a")
    assert rig.models["a"].starts == 2
    await rig.pool.retire(rig.pool.slots["a"])
    assert not rig.machine.loaded
    await rig.pool.stop()


async def test_filling_loads_in_order_what_fits_and_leaves_the_rest_cold() -> None:
    rig = make_rig({"a": 30, "big": 60, "b": 30}, 70)
    await rig.pool.fill(["a", "big", "b"])
    assert rig.resident() == {"a", "b"}
    assert rig.pool.slots["a"].evictions == 0
    await rig.pool.stop()


async def test_a_model_is_loaded_for_its_window_and_kept_through_it() -> None:
    rig = make_rig({"morning": 30, "other": 30}, 40, windows={"morning": "07:55-10:00"})
    for _ in range(50):
        await rig.ask("other", priority=0)
    await rig.pool.watch()
    assert rig.resident() == {"other"}
    rig.machine.minute = 475
    await rig.pool.watch()
    assert rig.resident() == {"morning"}
    with pytest.raises(DeadlineUnreachable):
        await rig.ask("other", deadline_s=0.01)
    rig.machine.minute = 600
    await rig.pool.watch()
    await rig.ask("other")
    assert rig.resident() == {"other"}
    await rig.pool.stop()


async def test_a_model_that_hangs_is_left_and_loaded_afresh_after_a_longer_rest_each_time() -> None:
    rig = make_rig({"a": 10}, None)
    await rig.ask("a")
    for rest_s in (10.0, 20.0, 40.0):
        rig.pool.give_up(rig.models["a"], "a run took over 30 s and was given up")
        rig.machine.now_s += rest_s - 0.1
        with pytest.raises(LoadFailed, match="over 30 s"):
            await rig.ask("a")
        rig.machine.now_s += 0.2
        await rig.ask("a")
    await rig.pool.stop()


async def test_what_hangs_in_a_model_that_was_replaced_is_not_laid_to_the_new_one() -> None:
    rig = make_rig({"a": 10}, None)
    old, new = rig.models["a"], Model("a", 10, rig.machine)
    old.busy = asyncio.Event()
    working = asyncio.ensure_future(rig.ask("a"))
    while not old.running:
        await asyncio.sleep(0)
    slot = rig.pool.slots["a"]
    rig.pool.add(Slot("a", lambda: new, Footprint(10)))
    leaving = asyncio.ensure_future(rig.pool.retire(slot))
    await rig.pool.load("a")
    rig.pool.give_up(old, "a run took over 30 s and was given up")
    assert rig.pool.slots["a"].inner is new
    assert rig.pool.slots["a"].broken(rig.machine.now_s) is None
    assert slot.broken(rig.machine.now_s)
    old.busy.set()
    await asyncio.gather(working, leaving)
    await rig.pool.stop()


async def test_a_model_that_leaks_is_loaded_afresh_and_only_it_is_blamed() -> None:
    mib = 1024**2
    rig = make_rig({"leaky": mib, "sound": mib}, None)
    rig.models["leaky"].leaks = mib
    for step in range(300):
        for _ in range(1 + step % 3):
            await rig.ask("leaky", deadline_s=1.0)
        await rig.ask("sound", deadline_s=1.0)
        await rig.pool.watch()
        await rig.pool.look_for_leaks()
        if rig.pool.slots["leaky"].trouble:
            break
    assert "a run" in (rig.pool.slots["leaky"].trouble or "")
    await rig.ask("leaky", deadline_s=1.0)
    assert rig.models["leaky"].starts == 2
    assert rig.pool.slots["sound"].trouble is None
    await rig.pool.stop()


async def test_a_suspect_whose_memory_does_not_come_back_is_no_leak() -> None:
    mib = 1024**2
    rig = make_rig({"a": mib}, None)
    for _ in range(200):
        await rig.ask("a", deadline_s=1.0)
        rig.machine.loaded["elsewhere"] = rig.machine.loaded.get("elsewhere", 0) + mib
        await rig.pool.watch()
        await rig.pool.look_for_leaks()
    assert rig.pool.slots["a"].trouble is None
    assert 2 <= rig.models["a"].starts <= 4
    await rig.pool.stop()


async def test_a_leak_is_found_though_it_takes_the_room_of_others() -> None:
    mib = 1024**2
    names = [f"sound-{index}" for index in range(8)]
    rig = make_rig(dict.fromkeys(("leaky", *names), 4 * mib), 40 * mib)
    for name in ("leaky", *names):
        await rig.ask(name, deadline_s=1.0)
    leaky = rig.models["leaky"]
    leaky.leaks = mib // 8
    most = 0
    for step in range(200):
        for _ in range(1 + step % 3):
            await rig.ask("leaky", deadline_s=1.0)
        most = max(most, rig.machine.loaded.get("leaky", 0))
        await rig.pool.watch()
        await rig.pool.look_for_leaks()
        if rig.pool.slots["leaky"].trouble:
            break
    assert rig.pool.slots["leaky"].trouble
    assert most < 24 * mib
    await rig.pool.stop()


async def test_an_operators_unload_ends_a_load_that_waits_for_a_lane() -> None:
    rig = make_rig({"slow": 10, "a": 10}, 90)
    gate = rig.models["slow"].gate = asyncio.Event()
    slow, waiting = (asyncio.ensure_future(rig.ask(name, priority=2)) for name in ("slow", "a"))
    await asyncio.sleep(0)
    await rig.pool.unload("a")
    gate.set()
    await slow
    with pytest.raises(LoadFailed, match="operator"):
        await waiting
    assert rig.models["a"].starts == 0
    await rig.pool.load("a")
    assert rig.resident() == {"slow", "a"}
    await rig.pool.stop()


async def test_an_operators_unload_ends_a_load_that_was_about_to_begin() -> None:
    rig = make_rig({"a": 10}, 90)
    waiting = asyncio.ensure_future(rig.ask("a"))
    await asyncio.sleep(0)
    await rig.pool.unload("a")
    with pytest.raises(LoadFailed, match="operator"):
        await waiting
    assert rig.models["a"].starts == 0
    assert rig.pool.slots["a"].failures == 0
    await rig.pool.stop()


async def test_a_model_that_fails_for_weeks_rests_no_longer_than_ten_minutes() -> None:
    rig = make_rig({"a": 10}, None)
    slot = rig.pool.slots["a"]
    slot.failures = 5000
    rig.models["a"].error = RunFailed("a", "model.onnx is corrupt")
    with pytest.raises((LoadFailed, RunFailed), match="corrupt"):
        async with asyncio.timeout(30.0):
            await rig.ask("a")
    assert slot.retry_s == rig.machine.now_s + 600.0
    await rig.pool.stop()


async def test_windows_that_overlap_without_room_for_both_pass_one_after_the_other() -> None:
    windows = {"first": "01:00-03:00", "second": "02:00-04:00"}
    rig = make_rig({"first": 30, "second": 30}, 40, windows=windows)
    resident = []
    for hour in (1, 2, 3):
        rig.machine.minute = 60 * hour
        async with asyncio.timeout(30.0):
            await rig.pool.watch()
        resident.append(rig.resident())
    assert resident == [{"first"}, {"first"}, {"second"}]
    await rig.pool.stop()


async def test_stopping_does_not_wait_for_a_load_that_has_no_room() -> None:
    rig = make_rig({"busy": 30, "new": 30}, 40)
    await rig.ask("busy")
    rig.models["busy"].busy = asyncio.Event()
    working, waiting = (asyncio.ensure_future(rig.ask(name)) for name in ("busy", "new"))
    for _ in range(20):
        await asyncio.sleep(0)
    stopping = asyncio.ensure_future(rig.pool.stop())
    with pytest.raises(LoadFailed, match="stopping"):
        async with asyncio.timeout(30.0):
            await waiting
    rig.models["busy"].busy.set()
    await asyncio.gather(working, stopping, return_exceptions=True)


async def test_a_model_that_takes_its_own_place_is_not_refused_for_the_memory_of_the_old_one() -> (
    None
):
    rig = make_rig({"a": 60}, 90)
    await rig.ask("a")
    old = rig.pool.slots["a"]
    rig.pool.add(Slot("a", lambda: rig.models["a"], Footprint(60)))
    assert rig.pool.slots["a"].why_not is None
    await rig.pool.retire(old)
    await rig.pool.load("a")
    assert rig.resident() == {"a"}
    await rig.pool.stop()


async def test_a_model_that_could_never_fit_is_served_once_it_can() -> None:
    rig = make_rig({"pinned": 60, "a": 60}, 90, pinned=("pinned",))
    assert rig.pool.slots["a"].broken(rig.machine.now_s)
    rig.pool.retune({"cpu": BASE + 130}, {0: 10.0})
    await rig.pool.watch()
    assert rig.pool.slots["a"].broken(rig.machine.now_s) is None
    await rig.ask("a")
    await rig.pool.stop()


async def test_a_patient_load_waits_for_company_before_it_evicts_what_is_worth_more() -> None:
    rig = make_rig({"urgent": 30, "bulk": 30}, 40, patience=1.0)
    for _ in range(50):
        await rig.ask("urgent", priority=0)
    first = asyncio.ensure_future(rig.ask("bulk", priority=2))
    for _ in range(20):
        await asyncio.sleep(0)
    assert rig.resident() == {"urgent"}
    second = asyncio.ensure_future(rig.ask("bulk", priority=0))  # as urgent as any: it may go
    async with asyncio.timeout(30.0):
        await asyncio.gather(first, second)
    assert rig.models["bulk"].starts == 1
    await rig.pool.stop()


async def test_a_patient_load_goes_at_once_where_there_is_room_or_nothing_is_lost() -> None:
    rig = make_rig({"a": 30, "b": 30, "c": 30}, 70, patience=1.0)
    for name in ("a", "b", "c"):
        async with asyncio.timeout(1.0):
            await rig.ask(name, priority=2)
    assert rig.pool.slots["c"].loads == 1
    await rig.pool.stop()


async def test_by_age_nothing_is_weighed() -> None:
    rig = make_rig({"urgent": 30, "bulk": 30}, 40, order=by_age, patience=1.0)
    for _ in range(50):
        await rig.ask("urgent", priority=0)
    async with asyncio.timeout(1.0):
        await rig.ask("bulk", priority=2)
    await rig.pool.watch()
    assert rig.resident() == {"bulk"}
    await rig.pool.stop()


async def test_what_several_loads_take_at_once_is_not_laid_to_one() -> None:
    rig = make_rig({"slow": 30, "urgent": 30}, 95, estimates={"slow": 20, "urgent": 20})
    gate = rig.models["slow"].gate = asyncio.Event()
    slow = asyncio.ensure_future(rig.ask("slow", priority=2))
    await asyncio.sleep(0)
    await rig.ask("urgent", priority=0)
    gate.set()
    await slow
    assert {slot.footprint.resident_bytes for slot in rig.pool.slots.values()} == {20}
    await rig.pool.stop()


async def test_a_load_without_room_lets_others_pass_and_says_so_in_the_end() -> None:
    rig = make_rig({"busy": 30, "big": 30, "small": 5}, 40)
    await rig.ask("busy")
    rig.models["busy"].busy = asyncio.Event()
    working = asyncio.ensure_future(rig.ask("busy"))
    waiting = asyncio.ensure_future(rig.ask("big", priority=2))
    for _ in range(5):
        await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        await rig.ask("small", priority=2)
    assert rig.resident() == {"busy", "small"}
    rig.machine.now_s += 11.0
    rig.pool.released()
    with pytest.raises(OverMemoryBudget, match="'big' found no room in 10 s"):
        async with asyncio.timeout(5.0):
            await waiting
    rig.models["busy"].busy.set()
    await working
    await rig.ask("big", priority=2)
    await rig.pool.stop()
