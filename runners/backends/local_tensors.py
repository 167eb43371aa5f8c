"""The local backend of a tensor model: queue, micro-batch, run, hand back.

A request that finds the model idle runs at once. Those that arrive while a run is in progress, or
within ``_COMPANY_S`` of one, are company: they wait for the next turn of the event loop and share a
run. Runs that usually take less than ``_ON_LOOP_S`` happen on the event loop itself (a thread hop
costs more than they do); longer ones, and those of a runner that may block, on a thread, so that
the loop stays responsive.

A model runs one batch at a time. A run that takes longer than ``max_run_s`` is given up: its
requests fail, its thread is written off, and whoever owns the model is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from runners.batching.batch_runner import BatchRunner, Result
from runners.batching.queue import Waiting, WorkQueue
from runners.batching.run_time_median import RunTimeMedian
from runners.batching.threads import WorkerThreads
from runners.protocol import ActiveEngine, BackendLoad, TensorResult, TensorRunner, Ticket
from runners.tasks import TensorTask
from runners.tasks.load_check import check_fit
from turnout.errors import (
    DeadlineUnreachable,
    Draining,
    LoadFailed,
    QueueFull,
    RunFailed,
    TurnoutError,
)
from turnout.types import Tensors

_ON_LOOP_S = 0.0008
_COMPANY_S = 0.0003
_LEAST_RETRY_S = 0.05


class RunTimes(Protocol):
    """The measured latency-versus-batch curve of a model."""

    def run_s(self, units: float) -> float:
        """Expected seconds of one run of ``units`` rows."""
        ...

    def observe_run(self, units: float, run_s: float) -> None:
        """Learn from one run."""
        ...


@dataclass(slots=True)
class _Work:
    tensors: Tensors
    rows: int
    answer: asyncio.Future[TensorResult]


class LocalTensors:
    """A ``TensorBackend`` over a runner in this process.

    Args:
        name: the model's name, for errors.
        make: builds the runner and its task; called on a thread, so that heavy imports don't
            block the event loop.
        times: the model's latency curve; learned here.
        max_rows: the most rows of one run.
        max_queue: the most rows that wait.
        heavy_prepare: whether ``prepare`` is worth a thread (decoding an image is).
        nice: how far a thread of its own stands back from others, 0 to 10 (see ``yield_cores``).
        workers: threads to run on, shared with other models; None has one of its own.
        max_run_s: after which a run is given up.
        max_load_s: after which the thread of a load is left to it, and replaced.
        finite: whether an answer that is not a number is an error.
        hung: told which backend, and the reason, when a run was given up; it is of no use then.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], tuple[TensorRunner, TensorTask]],
        times: RunTimes,
        *,
        max_rows: int = 64,
        max_queue: int = 1024,
        heavy_prepare: bool = False,
        nice: int = 0,
        workers: WorkerThreads | None = None,
        max_run_s: float = float("inf"),
        max_load_s: float = float("inf"),
        finite: bool = True,
        hung: Callable[[LocalTensors, str], None] = lambda backend, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._make = make
        self._times = times
        self._max_rows = max_rows
        self._heavy_prepare = heavy_prepare
        self._clock = clock
        self._queue: WorkQueue[_Work] = WorkQueue(max_queue)
        self._workers = workers or WorkerThreads(1, f"model-{name}", nice)
        self._own_workers = workers is None
        self._max_run_s = max_run_s
        self._max_load_s = max_load_s
        self._finite = finite
        self._batches: BatchRunner | None = None
        self._hung = hung
        self._given_up: str | None = None
        self._may_block = False
        self._active: ActiveEngine | None = None
        self._runner: TensorRunner | None = None
        self._task: TensorTask | None = None
        self._running = 0
        self._preparing_rows = 0
        self._accepted = 0
        self._drain_due = False
        self._ran_s = float("-inf")
        self._typical = RunTimeMedian()
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None before ``start`` has finished."""
        return self._active

    def load_now(self) -> BackendLoad:
        """The present load."""
        return BackendLoad(len(self._queue), self._running, self._queue.rows)

    async def start(self) -> None:
        """Load the model on a thread.

        Raises:
            LoadFailed: with what is wrong and what to do.
        """
        loop = asyncio.get_running_loop()
        job = self._workers.submit(self._load)
        watch: asyncio.TimerHandle | None = None

        def overdue() -> None:
            nonlocal watch
            if not (job.done() or self._workers.abandon(job)):  # it still waits for a thread
                watch = loop.call_later(self._max_load_s, overdue)

        if self._max_load_s < float("inf"):
            watch = loop.call_later(self._max_load_s, overdue)
        try:
            runner, task, active = await asyncio.wrap_future(job, loop=loop)
        finally:
            if watch is not None:
                watch.cancel()
        self._runner, self._task, self._active = runner, task, active
        self._batches = BatchRunner(
            self._name, runner, task, finite=self._finite, clock=self._clock
        )
        self._may_block = getattr(runner, "may_block", False)

    async def stop(self) -> None:
        """Refuse new work, finish what is accepted, free the model."""
        self._stopping = True
        await self._idle.wait()
        runner, self._runner = self._runner, None
        self._batches = None
        # A runner whose run never came back is still in use there.
        if runner is not None and self._given_up is None:
            await asyncio.get_running_loop().run_in_executor(self._workers, runner.close)
        if self._own_workers:
            self._workers.shutdown(wait=False)

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        """Run public inputs and return public outputs; see ``TensorBackend.infer``."""
        task = self._task
        if task is None:
            raise LoadFailed(self._name, "is not loaded")
        if self._stopping:
            raise Draining("this model is being stopped; retry elsewhere", retry_after_s=1.0)
        rows = len(next(iter(tensors.values())))
        self._admit(rows, ticket)
        self._accepted += 1
        self._idle.clear()
        try:
            prepared = await self._prepare(task, tensors, rows)
            if self._given_up is not None:
                raise RunFailed(self._name, self._given_up)
            if self._may_run_at_once(rows):
                return self._run_at_once(prepared, rows, ticket)
            return await self._wait_turn(prepared, rows, ticket)
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()

    def _admit(self, rows: int, ticket: Ticket) -> None:
        """Refuse now what would be refused later, when it has cost something.

        Raises:
            QueueFull: the queue is full, and nothing less urgent can give way.
            DeadlineUnreachable: the wait behind what is already here outlasts the deadline.
        """
        queue = self._queue
        if not queue.fits(rows, self._preparing_rows):
            evicted = queue.evict(rows + self._preparing_rows, ticket.priority)
            if not evicted:
                raise QueueFull(self._name, len(queue), self._retry_after_s(queue.rows))
            for one in evicted:
                self._fail(one, QueueFull(self._name, len(queue), self._retry_after_s(queue.rows)))
        ahead = queue.rows_before(ticket.priority) if len(queue) else 0
        if ahead and self._clock() + self._wait_s(ahead) > ticket.deadline_s:
            raise DeadlineUnreachable(
                f"{ahead} rows are ahead of this request in the queue of model {self._name!r}: "
                "its deadline would pass before it runs",
                retry_after_s=self._retry_after_s(ahead),
            )

    async def _prepare(self, task: TensorTask, tensors: Tensors, rows: int) -> Tensors:
        if not self._heavy_prepare:
            return task.prepare(tensors)
        self._preparing_rows += rows
        try:
            return await asyncio.get_running_loop().run_in_executor(None, task.prepare, tensors)
        finally:
            self._preparing_rows -= rows

    def _may_run_at_once(self, rows: int) -> bool:
        """Whether the model was idle for a moment, and the run is short."""
        return (
            not (self._drain_due or self._running or len(self._queue) or self._may_block)
            and self._clock() - self._ran_s >= _COMPANY_S
            and self._is_short(rows)
        )

    def _is_short(self, rows: int) -> bool:
        typical_s = self._typical.run_s(rows)
        return (self._times.run_s(rows) if typical_s is None else typical_s) < _ON_LOOP_S

    def _run_at_once(self, prepared: Tensors, rows: int, ticket: Ticket) -> TensorResult:
        """Run one request here and now; what arrives just after it shares the next run."""
        start_s = self._clock()
        if ticket.deadline_s < start_s:
            raise self._too_late(0.0)
        result = self._loaded().run_alone(prepared, rows)
        if isinstance(result, TurnoutError):
            raise result
        self._ran_s = self._clock()
        run_s = self._ran_s - start_s
        self._observe(rows, run_s)
        return TensorResult(result, 0.0, run_s, rows)

    async def _wait_turn(self, prepared: Tensors, rows: int, ticket: Ticket) -> TensorResult:
        loop = asyncio.get_running_loop()
        work = _Work(prepared, rows, loop.create_future())
        waiting = Waiting(work, rows, ticket.priority, ticket.deadline_s, self._clock())
        self._queue.push(waiting)
        self._wake(loop)
        try:
            return await work.answer
        except asyncio.CancelledError:
            self._queue.drop(waiting)
            raise

    def _observe(self, rows: int, run_s: float) -> None:
        self._times.observe_run(rows, run_s)
        self._typical.observe_run(rows, run_s)

    def _load(self) -> tuple[TensorRunner, TensorTask, ActiveEngine]:
        runner, task = self._make()
        active = runner.load()
        check_fit(self._name, runner, task)
        return runner, task, active

    def _wait_s(self, rows: int) -> float:
        """Expected time until so many rows have run."""
        full, rest = divmod(rows, self._max_rows)
        return full * self._times.run_s(self._max_rows) + (self._times.run_s(rest) if rest else 0.0)

    def _retry_after_s(self, rows: int) -> float:
        return max(self._wait_s(rows), _LEAST_RETRY_S)

    def _too_late(self, waited_s: float) -> DeadlineUnreachable:
        return DeadlineUnreachable(
            f"the deadline passed after {waited_s * 1e3:.3g} ms in the queue of model "
            f"{self._name!r}",
            retry_after_s=self._retry_after_s(self._queue.rows),
        )

    def _fail(self, waiting: Waiting[_Work], error: TurnoutError) -> None:
        if not waiting.item.answer.done():
            waiting.item.answer.set_exception(error)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Form a batch at the next turn of the loop, once what arrives together has arrived."""
        if not (self._drain_due or self._running):
            self._drain_due = True
            loop.call_soon(self._drain, loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drain_due = False
        now_s = self._clock()
        taken = self._queue.take(now_s, self._max_rows, self._times.run_s)
        for late in taken.expired:
            self._fail(late, self._too_late(now_s - late.arrived_s))
        batch = taken.batch
        if not batch:
            return
        rows = sum(waiting.rows for waiting in batch)
        self._running = len(batch)
        if self._is_short(rows) and not self._may_block:
            self._deliver(loop, batch, rows, now_s, *self._run(batch))
        else:
            self._run_on_thread(loop, batch, rows, now_s)

    def _run_on_thread(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Sequence[Waiting[_Work]],
        rows: int,
        now_s: float,
    ) -> None:
        job = self._workers.submit(self._run, batch)
        watch: asyncio.TimerHandle | None = None

        def overdue() -> None:
            nonlocal watch
            if self._workers.abandon(job):
                self._give_up(batch)
            elif not job.done():  # it still waits for a thread
                watch = loop.call_later(self._max_run_s, overdue)

        def done(future: asyncio.Future[tuple[list[Result], float]]) -> None:
            if watch is not None:
                watch.cancel()
            if self._given_up is None:
                self._deliver(loop, batch, rows, now_s, *future.result())

        if self._max_run_s < float("inf"):
            watch = loop.call_later(self._max_run_s, overdue)
        asyncio.wrap_future(job, loop=loop).add_done_callback(done)

    def _give_up(self, batch: Sequence[Waiting[_Work]]) -> None:
        """A run hangs: fail what it holds and what waits behind it."""
        reason = f"a run took over {self._max_run_s:g} s and was given up"
        self._given_up = reason
        self._running = 0
        for waiting in (*batch, *self._queue.clear()):
            self._fail(waiting, RunFailed(self._name, reason))
        self._hung(self, reason)

    def _run(self, batch: Sequence[Waiting[_Work]]) -> tuple[list[Result], float]:
        requests = [waiting.item.tensors for waiting in batch]
        return self._loaded().run(requests, [waiting.rows for waiting in batch])

    def _loaded(self) -> BatchRunner:
        if self._batches is None:
            raise LoadFailed(self._name, "is not loaded")
        return self._batches

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Sequence[Waiting[_Work]],
        rows: int,
        start_s: float,
        results: Sequence[Result],
        run_s: float,
    ) -> None:
        self._running = 0
        self._ran_s = self._clock()
        failed = False
        for waiting, result in zip(batch, results, strict=True):
            answer = waiting.item.answer
            if isinstance(result, TurnoutError):
                failed = True
                if not answer.done():
                    answer.set_exception(result)
            elif not answer.done():
                queue_s = max(start_s - waiting.arrived_s, 0.0)
                answer.set_result(TensorResult(result, queue_s, run_s, rows))
        if not failed:
            self._observe(rows, run_s)
        if len(self._queue):
            self._wake(loop)
