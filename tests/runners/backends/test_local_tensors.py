from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from routing.latency import ModelLatency
from runners.backends.local_tensors import LocalTensors, TensorOptions
from runners.batching.threads import WorkerThreads
from runners.protocol import ActiveEngine, Ticket
from turnout.errors import (
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    LoadFailed,
    QueueFull,
    RunFailed,
)
from turnout.types import Tensors

FAST, SLOW = 1e-5, 1.0
SOON = math.inf


class Doubler:
    """A runner that doubles, remembers its batches, and fails on negative rows."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.closed = False

    def load(self) -> ActiveEngine:
        return ActiveEngine("fake", "cpu", "cpu")

    def close(self) -> None:
        self.closed = True

    def run(self, tensors: Tensors) -> Tensors:
        rows = tensors["x"]
        if (rows == -2).any():
            raise ZeroDivisionError("no engine error of ours")
        if (rows < 0).any():
            raise RunFailed("m", "negative row")
        self.batches.append(len(rows))
        return {"y": rows * 2}


class Plain:
    """A task that changes nothing and refuses a row of 99."""

    def prepare(self, tensors: Tensors) -> Tensors:
        if (tensors["x"] == 99).any():
            raise InvalidRequest("row 0 is 99")
        return tensors

    def example(self, rows: int) -> Tensors | None:
        return None

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        return {"x": np.concatenate([tensors["x"] for tensors in requests])}

    def finish(self, outputs: Tensors) -> Tensors:
        return outputs


def x(*values: float) -> Tensors:
    return {"x": np.array(values, np.float32)}


def ticket(priority: int = 0, deadline_s: float = SOON) -> Ticket:
    return Ticket("t", priority, deadline_s)


async def backend(
    *, run_s: float = FAST, runner: Doubler | None = None, max_queue: int = 1000,
    clock: Callable[[], float] = lambda: 0.0,
) -> tuple[LocalTensors, Doubler]:  # fmt: skip
    made = runner or Doubler()
    local = LocalTensors(
        "m", lambda: (made, Plain()), ModelLatency(run_s),
        TensorOptions(max_rows=8, max_queue=max_queue), clock=clock,
    )  # fmt: skip
    await local.start()
    return local, made


@pytest.mark.parametrize("run_s", [FAST, SLOW], ids=["on the loop", "on a thread"])
async def test_each_request_gets_its_own_rows(run_s: float) -> None:
    local, runner = await backend(run_s=run_s)
    answers = await asyncio.gather(
        *(local.infer(x(*range(i, i + 1 + i % 3)), ticket()) for i in range(20))
    )
    for i, ran in enumerate(answers):
        assert ran.tensors["y"].tolist() == [2.0 * v for v in range(i, i + 1 + i % 3)]
    assert max(runner.batches) <= 8
    assert len(runner.batches) < 20
    await local.stop()
    assert runner.closed


async def test_a_bad_request_does_not_take_its_batch_with_it() -> None:
    local, _ = await backend(run_s=SLOW)
    answers = await asyncio.gather(
        *(local.infer(x(value), ticket()) for value in (1, -1, -2, 3)), return_exceptions=True
    )
    assert answers[0].tensors["y"].tolist() == [2.0]  # type: ignore[union-attr]
    assert isinstance(answers[1], RunFailed)
    assert isinstance(answers[2], RunFailed)
    assert "ZeroDivisionError" in str(answers[2])
    assert answers[3].tensors["y"].tolist() == [6.0]  # type: ignore[union-attr]
    await local.stop()


async def test_what_cannot_be_prepared_is_refused_before_it_queues() -> None:
    local, runner = await backend()
    with pytest.raises(InvalidRequest, match="99"):
        await local.infer(x(99), ticket())
    assert runner.batches == []
    assert local.load_now().queued == 0
    await local.stop()


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    local, _ = await backend(run_s=SLOW, max_queue=2)
    first = [asyncio.ensure_future(local.infer(x(1, 2), ticket()))]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        await local.infer(x(3), ticket())
    assert caught.value.retry_after_s > 0
    await asyncio.gather(*first)
    await local.stop()


async def test_work_past_its_deadline_is_refused_not_run() -> None:
    local, runner = await backend(clock=lambda: 5.0)
    with pytest.raises(DeadlineUnreachable):
        await local.infer(x(1), ticket(deadline_s=4.0))
    assert runner.batches == []
    await local.stop()


class Gated(Doubler):
    """Waits for its gate before each run."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def run(self, tensors: Tensors) -> Tensors:
        assert self.gate.wait(10)
        return super().run(tensors)


async def test_work_whose_client_has_gone_does_not_run() -> None:
    runner = Gated()
    local, _ = await backend(run_s=SLOW, runner=runner)
    stays = asyncio.ensure_future(local.infer(x(1), ticket()))
    while not local.load_now().running:
        await asyncio.sleep(0)
    gone = asyncio.ensure_future(local.infer(x(5, 6), ticket()))
    while not local.load_now().queued:
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    runner.gate.set()
    await stays
    await local.stop()
    assert runner.batches == [1]


async def test_stopping_finishes_what_is_accepted_and_refuses_the_rest() -> None:
    local, runner = await backend(run_s=SLOW)
    accepted = [asyncio.ensure_future(local.infer(x(i), ticket())) for i in range(30)]
    await asyncio.sleep(0)
    await local.stop()
    assert [ran.tensors["y"][0] for ran in await asyncio.gather(*accepted)] == [
        2.0 * i for i in range(30)
    ]
    assert runner.closed
    with pytest.raises(Draining):
        await local.infer(x(1), ticket())


async def test_an_idle_model_runs_at_once_and_company_shares_the_next_run() -> None:
    local, runner = await backend()
    first = asyncio.create_task(local.infer(x(1), ticket()))
    rest = [asyncio.create_task(local.infer(x(i), ticket())) for i in (2, 3, 4)]
    await asyncio.gather(first, *rest)
    assert runner.batches == [1, 3]
    assert [(await task).batch for task in (first, *rest)] == [1, 3, 3, 3]
    await local.stop()


async def test_urgent_work_takes_the_place_of_bulk_in_a_full_queue() -> None:
    runner = Gated()
    local, _ = await backend(run_s=SLOW, runner=runner, max_queue=2)
    runs = asyncio.create_task(local.infer(x(1), ticket()))
    while not local.load_now().running:
        await asyncio.sleep(0)
    bulk = [asyncio.create_task(local.infer(x(i), ticket(priority=2))) for i in (2, 3)]
    while local.load_now().queued < 2:
        await asyncio.sleep(0)
    urgent = asyncio.create_task(local.infer(x(7, 8), ticket(priority=0)))
    refused = await asyncio.gather(*bulk, return_exceptions=True)
    assert [type(each) for each in refused] == [QueueFull, QueueFull]
    assert all(each.retry_after_s > 0 for each in refused if isinstance(each, QueueFull))
    with pytest.raises(QueueFull):
        await local.infer(x(9), ticket(priority=2))
    runner.gate.set()
    assert (await urgent).tensors["y"].tolist() == [14, 16]
    await runs
    await local.stop()


async def test_a_wait_that_outlasts_the_deadline_is_refused_at_the_door() -> None:
    runner = Gated()
    local, _ = await backend(run_s=SLOW, runner=runner, clock=lambda: 0.0)
    runs = asyncio.create_task(local.infer(x(1), ticket()))
    while not local.load_now().running:
        await asyncio.sleep(0)
    ahead = asyncio.create_task(local.infer(x(2, 3), ticket()))
    while not local.load_now().queued:
        await asyncio.sleep(0)
    with pytest.raises(DeadlineUnreachable) as caught:
        await local.infer(x(4), ticket(deadline_s=0.5))
    assert caught.value.retry_after_s > 0
    behind = asyncio.create_task(local.infer(x(4), ticket(deadline_s=60.0)))
    runner.gate.set()
    await asyncio.gather(runs, ahead, behind)
    await local.stop()


class SlowToPrepare(Plain):
    """Prepares only once its gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def prepare(self, tensors: Tensors) -> Tensors:
        assert self.gate.wait(10)
        return super().prepare(tensors)


async def test_stopping_waits_for_what_is_still_being_prepared() -> None:
    runner, task = Doubler(), SlowToPrepare()
    local = LocalTensors(
        "m",
        lambda: (runner, task),
        ModelLatency(FAST),
        TensorOptions(max_queue=3, heavy_prepare=True),
    )
    await local.start()
    accepted = [asyncio.create_task(local.infer(x(i), ticket())) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await local.infer(x(1, 2, 3), ticket())
    stopping = asyncio.create_task(local.stop())
    await asyncio.sleep(0)
    assert not runner.closed
    task.gate.set()
    assert [ran.tensors["y"][0] for ran in await asyncio.gather(*accepted)] == [0, 2, 4]
    await stopping
    assert runner.closed


async def test_before_it_is_loaded_it_says_so() -> None:
    local = LocalTensors("m", lambda: (Doubler(), Plain()), ModelLatency(FAST))
    with pytest.raises(LoadFailed):
        await local.infer(x(1), ticket())
    await local.stop()


async def test_a_run_that_hangs_is_given_up_and_its_thread_replaced() -> None:
    runner, workers, told = Gated(), WorkerThreads(1), list[str]()
    local = LocalTensors(
        "m", lambda: (runner, Plain()), ModelLatency(SLOW), TensorOptions(max_run_s=0.05),
        workers=workers, hung=lambda _, reason: told.append(reason),
    )  # fmt: skip
    await local.start()
    runs = asyncio.ensure_future(local.infer(x(1), ticket()))
    while not local.load_now().running:
        await asyncio.sleep(0)
    waits = asyncio.ensure_future(local.infer(x(2), ticket()))
    for failed in await asyncio.gather(runs, waits, return_exceptions=True):
        assert isinstance(failed, RunFailed)
        assert "given up" in str(failed)
    with pytest.raises(RunFailed, match="given up"):
        await local.infer(x(3), ticket())
    assert len(told) == 1
    assert workers.submit(pow, 2, 2).result(10) == 4
    await local.stop()
    assert not runner.closed
    runner.gate.set()
    workers.shutdown()


async def test_the_thread_of_a_load_that_hangs_is_replaced() -> None:
    runner, gate, workers = Doubler(), threading.Event(), WorkerThreads(1)

    def make() -> tuple[Doubler, Plain]:
        gate.wait()
        return runner, Plain()

    local = LocalTensors(
        "m", make, ModelLatency(FAST), TensorOptions(max_load_s=0.02), workers=workers
    )
    loading = asyncio.ensure_future(local.start())
    while not workers.lost:
        await asyncio.sleep(0.001)
    assert workers.submit(pow, 2, 2).result(10) == 4
    gate.set()
    await loading
    assert (await local.infer(x(1), ticket())).batch == 1
    await local.stop()
    workers.shutdown()


class Sick(Doubler):
    """Answers a negative row with what is no number."""

    def run(self, tensors: Tensors) -> Tensors:
        return {"y": np.sqrt(np.maximum(tensors["x"], 0)) / (tensors["x"] >= 0)}


@pytest.mark.parametrize("run_s", [FAST, SLOW], ids=["on the loop", "on a thread"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
async def test_an_answer_that_is_no_number_fails_alone(run_s: float) -> None:
    local, _ = await backend(run_s=run_s, runner=Sick())
    answers = await asyncio.gather(
        *(local.infer(x(value), ticket()) for value in (4, -1, 9)), return_exceptions=True
    )
    assert answers[0].tensors["y"].tolist() == [2.0]  # type: ignore[union-attr]
    assert isinstance(answers[1], RunFailed)
    assert "'y' is not a finite number in row 0" in str(answers[1])
    assert answers[2].tensors["y"].tolist() == [3.0]  # type: ignore[union-attr]
    await local.stop()


async def test_a_runner_that_may_block_never_runs_on_the_event_loop() -> None:
    class MayBlock(Doubler):
        may_block = True
        thread: str | None = None

        def run(self, tensors: Tensors) -> Tensors:
            self.thread = threading.current_thread().name
            return super().run(tensors)

    runner = MayBlock()
    local, _ = await backend(run_s=FAST, runner=runner)
    await local.infer(x(1), ticket())
    assert runner.thread != threading.current_thread().name
    await local.stop()
