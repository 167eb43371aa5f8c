"""The local backend of a tensor model: load, admit, prepare, dispatch, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from runners.batching.batch_runner import BatchRunner
from runners.batching.dispatcher import BatchLimits, Dispatcher
from runners.batching.threads import Watchdog, WorkerThreads
from runners.protocol import (
    ActiveEngine,
    BackendLoad,
    RunTimes,
    TensorResult,
    TensorRunner,
    Ticket,
)
from runners.tasks import TensorTask
from runners.tasks.load_check import check_fit
from turnout.errors import Draining, LoadFailed, RunFailed
from turnout.types import Tensors


@dataclass(frozen=True, slots=True)
class TensorOptions(BatchLimits):
    """How a local tensor model is loaded and run; see also ``BatchLimits``.

    Attributes:
        max_load_s: seconds after which the thread of a load is written off and replaced.
        heavy_prepare: whether ``prepare`` is worth a thread (decoding an image is).
        nice: how far a thread of its own stands back from others, 0 to 10 (see ``yield_cores``).
        finite: whether an answer that is not a number is an error.
    """

    max_load_s: float = float("inf")
    heavy_prepare: bool = False
    nice: int = 0
    finite: bool = True


_DEFAULTS = TensorOptions()


class LocalTensors:
    """A ``TensorBackend`` over a runner in this process.

    Args:
        name: the model's name, for errors.
        make: builds the runner and its task; called on a thread, so that heavy imports don't
            block the event loop.
        times: the model's latency curve; learned here.
        options: how it is loaded and run.
        workers: threads to run on, shared with other models; None has one of its own.
        hung: called with this backend and the reason when a run was given up; the backend is of
            no use then.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], tuple[TensorRunner, TensorTask]],
        times: RunTimes,
        options: TensorOptions = _DEFAULTS,
        *,
        workers: WorkerThreads | None = None,
        hung: Callable[[LocalTensors, str], None] = lambda backend, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._make = make
        self._times = times
        self._options = options
        self._heavy_prepare = options.heavy_prepare
        self._workers = workers or WorkerThreads(1, f"model-{name}", options.nice)
        self._owns_workers = workers is None
        self._hung = hung
        self._clock = clock
        self._active: ActiveEngine | None = None
        self._runner: TensorRunner | None = None
        self._task: TensorTask | None = None
        self._dispatcher: Dispatcher | None = None
        self._accepted = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None before ``start`` has finished."""
        return self._active

    def load_now(self) -> BackendLoad:
        """The present load."""
        return BackendLoad() if self._dispatcher is None else self._dispatcher.load_now()

    async def start(self) -> None:
        """Load the model on a thread.

        Raises:
            LoadFailed: with what is wrong and what to do.
        """
        loop = asyncio.get_running_loop()
        job = self._workers.submit(self._load)
        watchdog = Watchdog(loop, self._workers, job, self._options.max_load_s)
        try:
            runner, task, active = await asyncio.wrap_future(job, loop=loop)
        finally:
            watchdog.cancel()
        self._runner, self._task, self._active = runner, task, active
        self._dispatcher = Dispatcher(
            self._name,
            BatchRunner(self._name, runner, task, finite=self._options.finite, clock=self._clock),
            self._times,
            self._workers,
            self._options,
            may_block=getattr(runner, "may_block", False),
            hung=lambda reason: self._hung(self, reason),
            clock=self._clock,
        )

    async def stop(self) -> None:
        """Refuse new work, finish accepted work, free the model."""
        self._stopping = True
        await self._idle.wait()
        runner, dispatcher = self._runner, self._dispatcher
        self._runner = self._dispatcher = None
        # A runner whose run never came back is still in use there.
        if runner is not None and dispatcher is not None and dispatcher.given_up is None:
            await asyncio.get_running_loop().run_in_executor(self._workers, runner.close)
        if self._owns_workers:
            self._workers.shutdown(wait=False)

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        """Run public inputs and return public outputs; see ``TensorBackend.infer``."""
        task, dispatcher = self._task, self._dispatcher
        if self._stopping:
            raise Draining("this model is being stopped; retry elsewhere", retry_after_s=1.0)
        if task is None or dispatcher is None:
            raise LoadFailed(self._name, "is not loaded")
        rows = len(next(iter(tensors.values())))
        dispatcher.admit(rows, ticket)
        self._accepted += 1
        self._idle.clear()
        try:
            if self._heavy_prepare:
                prepared = await self._prepare_on_thread(task, dispatcher, tensors, rows)
            else:
                prepared = task.prepare(tensors)
            if dispatcher.given_up is not None:
                raise RunFailed(self._name, dispatcher.given_up)
            if dispatcher.may_run_at_once(rows):
                return dispatcher.run_at_once(prepared, rows, ticket)
            return await dispatcher.run_queued(prepared, rows, ticket)
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()

    @staticmethod
    async def _prepare_on_thread(
        task: TensorTask, dispatcher: Dispatcher, tensors: Tensors, rows: int
    ) -> Tensors:
        dispatcher.preparing_rows += rows
        try:
            return await asyncio.get_running_loop().run_in_executor(None, task.prepare, tensors)
        finally:
            dispatcher.preparing_rows -= rows

    def _load(self) -> tuple[TensorRunner, TensorTask, ActiveEngine]:
        runner, task = self._make()
        active = runner.load()
        check_fit(self._name, runner, task, self._options.max_rows)
        return runner, task, active
