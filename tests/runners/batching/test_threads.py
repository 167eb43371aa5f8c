from __future__ import annotations

import asyncio
import threading
import time

import pytest

from runners.batching.threads import Watchdog, WorkerThreads

LIMIT_S = 20.0


def test_results_and_errors_come_back() -> None:
    workers = WorkerThreads(2)
    assert [f.result(LIMIT_S) for f in [workers.submit(pow, i, 2) for i in range(20)]] == [
        i * i for i in range(20)
    ]
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 // 0).result(LIMIT_S)
    workers.shutdown()
    with pytest.raises(RuntimeError):
        workers.submit(pow, 2, 2)


def test_never_more_threads_than_asked_for() -> None:
    workers = WorkerThreads(2)
    both, gate = threading.Barrier(2), threading.Event()

    def wait() -> None:
        both.wait(LIMIT_S)
        gate.wait(LIMIT_S)

    first = [workers.submit(wait) for _ in range(2)]
    third = workers.submit(pow, 2, 3)
    assert not third.done()
    gate.set()
    assert third.result(LIMIT_S) == 8
    assert all(future.result(LIMIT_S) is None for future in first)
    workers.shutdown()


def test_a_thread_that_is_written_off_is_replaced_and_ends_when_it_comes_back() -> None:
    workers = WorkerThreads(1)
    began, gate = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        gate.wait(LIMIT_S)

    hung = workers.submit(hang)
    waiting = workers.submit(pow, 3, 2)
    assert began.wait(LIMIT_S)
    assert workers.abandon(hung)
    assert not workers.abandon(hung)
    assert waiting.result(LIMIT_S) == 9
    assert workers.lost == 1
    gate.set()
    hung.result(LIMIT_S)
    until_s = time.monotonic() + LIMIT_S
    while workers.lost and time.monotonic() < until_s:
        threading.Event().wait(0.001)
    assert workers.lost == 0
    workers.shutdown()


async def test_a_watchdog_waits_for_a_thread_and_then_writes_it_off_once() -> None:
    workers, loop, gate = WorkerThreads(1), asyncio.get_running_loop(), threading.Event()
    calls = list[str]()
    first = workers.submit(gate.wait, LIMIT_S)
    second = workers.submit(pow, 2, 3)
    Watchdog(loop, workers, second, 0.005, lambda: calls.append("second"))
    Watchdog(loop, workers, first, 0.05, lambda: calls.append("first"))
    assert await asyncio.wrap_future(second) == 8  # the thread of the first was replaced
    assert calls == ["first"]
    gate.set()
    workers.shutdown()


async def test_a_watchdog_that_is_cancelled_writes_nothing_off() -> None:
    workers, gate = WorkerThreads(1), threading.Event()
    job = workers.submit(gate.wait, LIMIT_S)
    Watchdog(asyncio.get_running_loop(), workers, job, 0.001).cancel()
    await asyncio.sleep(0.01)
    assert not workers.lost
    gate.set()
    workers.shutdown()
