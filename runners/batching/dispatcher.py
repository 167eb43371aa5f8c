"""Decides when, where and with whom a request of one loaded model runs.

A request that finds the model idle runs at once. Those that arrive while a run is in progress, or
within ``_BATCH_WINDOW_S`` of one, wait for the next turn of the event loop and share a run. Runs
that usually take less than ``_ON_LOOP_S`` happen on the event loop itself (a thread hop costs more
than they do); longer ones, and those of a runner that may block, on a thread, so that the loop
stays responsive.

A model runs one batch at a time. A run that takes longer than its limit is given up: its requests
and those behind it fail, its thread is written off, and the model takes nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from runners.batching.batch_runner import BatchRunner, Result
from runners.batching.queue import Waiting, WorkQueue
from runners.batching.run_time_median import RunTimeMedian
from runners.batching.threads import Watchdog, WorkerThreads
from runners.protocol import BackendLoad, RunTimes, TensorResult, Ticket
from turnout.errors import DeadlineUnreachable, QueueFull, RunFailed, TurnoutError
from turnout.types import Tensors

_ON_LOOP_S = 0.0008
_BATCH_WINDOW_S = 0.0003
_LEAST_RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a model's queue and runs.

    Attributes:
        max_rows: the most rows of one run.
        max_queue: the most rows that wait.
        max_run_s: seconds after which a run is given up.
    """

    max_rows: int = 64
    max_queue: int = 1024
    max_run_s: float = float("inf")


@dataclass(slots=True)
class _Work:
    tensors: Tensors
    result: asyncio.Future[TensorResult]


_Batch: TypeAlias = list[Waiting[_Work]]


class Dispatcher:
    """Queues the requests of one loaded model and runs them, alone or in batches.

    Args:
        name: the model's name, for errors.
        batches: runs the loaded model.
        times: the model's latency curve; learned here.
        workers: threads for runs that are not short.
        limits: of queue and runs.
        may_block: whether no run may happen on the event loop.
        hung: called with the reason when a run was given up.
        clock: monotonic seconds.

    Attributes:
        given_up: why the model takes nothing more; None while it does.
        preparing_rows: rows that were admitted and are not yet queued.
    """

    def __init__(
        self,
        name: str,
        batches: BatchRunner,
        times: RunTimes,
        workers: WorkerThreads,
        limits: BatchLimits,
        *,
        may_block: bool,
        hung: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.given_up: str | None = None
        self.preparing_rows = 0
        self._name = name
        self._batches = batches
        self._times = times
        self._workers = workers
        self._max_rows = limits.max_rows
        self._max_run_s = limits.max_run_s
        self._may_block = may_block
        self._hung = hung
        self._clock = clock
        self._queue: WorkQueue[_Work] = WorkQueue(limits.max_queue)
        self._median = RunTimeMedian()
        self._running = 0
        self._drain_due = False
        self._last_run_s = float("-inf")

    def load_now(self) -> BackendLoad:
        """The present load."""
        return BackendLoad(len(self._queue), self._running, self._queue.rows)

    def admit(self, rows: int, ticket: Ticket) -> None:
        """Refuse a request early that would be refused later, when it has cost something.

        Raises:
            QueueFull: the queue is full, and nothing less urgent can give way.
            DeadlineUnreachable: the wait behind the queue outlasts the deadline.
        """
        queue = self._queue
        if not (len(queue) or self.preparing_rows):
            return  # an empty queue takes any one request
        if not queue.fits(rows, self.preparing_rows):
            evicted = queue.evict(rows + self.preparing_rows, ticket.priority)
            if not evicted:
                raise self._queue_full()
            for waiting in evicted:
                _fail(waiting, self._queue_full())
        ahead = queue.rows_before(ticket.priority)
        if ahead and self._clock() + self._wait_s(ahead) > ticket.deadline_s:
            raise DeadlineUnreachable(
                f"{ahead} rows are ahead of this request in the queue of model {self._name!r}: "
                "its deadline would pass before it runs",
                retry_after_s=self._retry_after_s(ahead),
            )

    def may_run_at_once(self, rows: int) -> bool:
        """Whether the model was idle for a moment, and the run is short."""
        return (
            not (self._drain_due or self._running or len(self._queue) or self._may_block)
            and self._clock() - self._last_run_s >= _BATCH_WINDOW_S
            and self._is_short(rows)
        )

    def run_at_once(self, tensors: Tensors, rows: int, ticket: Ticket) -> TensorResult:
        """Run one request now, on the event loop; requests just after it share the next run."""
        start_s = self._clock()
        if ticket.deadline_s < start_s:
            raise self._too_late(0.0)
        result = self._batches.run_alone(tensors, rows)
        if isinstance(result, TurnoutError):
            raise result
        self._last_run_s = self._clock()
        run_s = self._last_run_s - start_s
        self._observe(rows, run_s)
        return TensorResult(result, 0.0, run_s, rows)

    async def run_queued(self, tensors: Tensors, rows: int, ticket: Ticket) -> TensorResult:
        """Queue one request and wait for the batch that runs it."""
        loop = asyncio.get_running_loop()
        work = _Work(tensors, loop.create_future())
        waiting = Waiting(work, rows, ticket.priority, ticket.deadline_s, self._clock())
        self._queue.push(waiting)
        self._schedule_drain(loop)
        try:
            return await work.result
        except asyncio.CancelledError:
            self._queue.drop(waiting)
            raise

    def _schedule_drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Form a batch at the next turn of the loop, once simultaneous requests have arrived."""
        if not (self._drain_due or self._running):
            self._drain_due = True
            loop.call_soon(self._drain, loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drain_due = False
        now_s = self._clock()
        taken = self._queue.take(now_s, self._max_rows, self._times.run_s)
        for late in taken.expired:
            _fail(late, self._too_late(now_s - late.arrived_s))
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
        self, loop: asyncio.AbstractEventLoop, batch: _Batch, rows: int, start_s: float
    ) -> None:
        job = self._workers.submit(self._run, batch)
        watchdog = Watchdog(loop, self._workers, job, self._max_run_s, lambda: self._give_up(batch))

        def done(future: asyncio.Future[tuple[list[Result], float]]) -> None:
            watchdog.cancel()
            if self.given_up is None:
                self._deliver(loop, batch, rows, start_s, *future.result())

        asyncio.wrap_future(job, loop=loop).add_done_callback(done)

    def _run(self, batch: _Batch) -> tuple[list[Result], float]:
        requests = [waiting.item.tensors for waiting in batch]
        return self._batches.run(requests, [waiting.rows for waiting in batch])

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: _Batch,
        rows: int,
        start_s: float,
        results: Sequence[Result],
        run_s: float,
    ) -> None:
        self._running = 0
        self._last_run_s = self._clock()
        failed = False
        for waiting, result in zip(batch, results, strict=True):
            if isinstance(result, TurnoutError):
                failed = True
                _fail(waiting, result)
            elif not waiting.item.result.done():
                queue_s = max(start_s - waiting.arrived_s, 0.0)
                waiting.item.result.set_result(TensorResult(result, queue_s, run_s, rows))
        if not failed:
            self._observe(rows, run_s)
        if len(self._queue):
            self._schedule_drain(loop)

    def _give_up(self, batch: _Batch) -> None:
        """Fail a batch whose run hangs, and everything that waits behind it."""
        reason = f"a run took over {self._max_run_s:g} s and was given up"
        self.given_up = reason
        self._running = 0
        for waiting in (*batch, *self._queue.clear()):
            _fail(waiting, RunFailed(self._name, reason))
        self._hung(reason)

    def _observe(self, rows: int, run_s: float) -> None:
        self._times.observe_run(rows, run_s)
        self._median.observe_run(rows, run_s)

    def _is_short(self, rows: int) -> bool:
        median_s = self._median.run_s(rows)
        return (self._times.run_s(rows) if median_s is None else median_s) < _ON_LOOP_S

    def _wait_s(self, rows: int) -> float:
        """Expected seconds until so many rows have run."""
        full, rest = divmod(rows, self._max_rows)
        return full * self._times.run_s(self._max_rows) + (self._times.run_s(rest) if rest else 0.0)

    def _retry_after_s(self, rows: int) -> float:
        return max(self._wait_s(rows), _LEAST_RETRY_S)

    def _queue_full(self) -> QueueFull:
        return QueueFull(self._name, len(self._queue), self._retry_after_s(self._queue.rows))

    def _too_late(self, waited_s: float) -> DeadlineUnreachable:
        return DeadlineUnreachable(
            f"the deadline passed after {waited_s * 1e3:.3g} ms in the queue of model "
            f"{self._name!r}",
            retry_after_s=self._retry_after_s(self._queue.rows),
        )


def _fail(waiting: Waiting[_Work], error: TurnoutError) -> None:
    if not waiting.item.result.done():
        waiting.item.result.set_exception(error)
