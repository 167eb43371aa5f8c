from __future__ import annotations

import asyncio

from services.batch_api.concurrency import LAG_TARGET_S, ConcurrencyWindow
from tests.services.batch_api.conftest import Clock


async def waiting(window: ConcurrencyWindow, rows: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.ensure_future(window.acquire()) for _ in range(rows)]
    await asyncio.sleep(0)
    return tasks


async def test_it_grows_while_rows_wait_and_the_loop_keeps_up() -> None:
    window = ConcurrencyWindow(20, Clock())
    await waiting(window, 40)
    assert window.in_use == window.limit == 8
    for _ in range(50):
        window.lagged(0.0)
    await asyncio.sleep(0)
    assert window.in_use == window.limit == 20


async def test_it_does_not_grow_while_nothing_waits() -> None:
    window = ConcurrencyWindow(20, Clock())
    await waiting(window, 3)
    for _ in range(50):
        window.lagged(0.0)
    assert window.limit == 8


async def test_it_shrinks_when_the_loop_answers_late_and_never_to_nothing() -> None:
    window = ConcurrencyWindow(64, Clock())
    window.lagged(2 * LAG_TARGET_S)
    assert window.limit == 6
    for _ in range(50):
        window.lagged(2 * LAG_TARGET_S)
    assert window.limit == 1


async def test_refusals_that_come_together_count_once() -> None:
    clock = Clock()
    window = ConcurrencyWindow(64, clock)
    for _ in range(10):
        window.refused()
    assert window.limit == 4
    clock.now_s += 1
    window.refused()
    assert window.limit == 2


async def test_a_row_that_is_cancelled_while_it_waits_leaves_no_hole() -> None:
    window = ConcurrencyWindow(1, Clock())
    first, second, third = await waiting(window, 3)
    second.cancel()
    assert first.done()
    window.release()
    await asyncio.wait([third])
    assert window.in_use == 1
    window.release()
    assert window.in_use == 0


async def test_a_row_cancelled_in_the_moment_of_its_turn_gives_the_turn_back() -> None:
    window = ConcurrencyWindow(1, Clock())
    _, second, third = await waiting(window, 3)
    window.release()  # it is second's turn, which has not run yet
    second.cancel()
    await asyncio.wait([third])
    assert window.in_use == 1
