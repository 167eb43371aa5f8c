"""The threads that run models: shared by all of them, and replaced when one never comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from runners.engines.threads import yield_cores

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Job:
    future: Future[Any]
    call: Callable[[], Any]


class WorkerThreads(Executor):
    """An executor whose threads can be written off.

    Its threads are daemons: one that hangs in an engine does not keep the process from ending,
    which the standard library's executor would.

    Args:
        count: threads at the same time, without those written off.
        name: prefix of the threads' names.
        nice: how far they stand back from other threads, 0 to 10 (see ``yield_cores``).
    """

    def __init__(self, count: int, name: str = "worker", nice: int = 0) -> None:
        self._count = count
        self._name = name
        self._nice = nice
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = 0
        self._started = 0
        self._closed = False
        self._running: dict[Future[Any], threading.Thread] = {}
        self._lost: set[threading.Thread] = set()

    @property
    def lost(self) -> int:
        """Threads that were written off and have not come back."""
        return len(self._lost)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See ``Executor.submit``."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers were shut down")
            self._jobs.put(_Job(future, lambda: fn(*args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._threads < self._count:
                self._start()
        return future

    def abandon(self, future: Future[Any]) -> bool:
        """Write off the thread that runs this job; False when no thread runs it now.

        The thread ends by itself if its call ever returns; the result is ignored then.
        """
        with self._lock:
            thread = self._running.pop(future, None)
            if thread is None:
                return False
            self._lost.add(thread)
            self._threads -= 1
            if not self._closed:
                self._start()
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once submitted jobs have run; never waits for one written off."""
        with self._lock:
            self._closed = True
            threads = list(self._running.values()) if wait else []
            if cancel_futures:
                while not self._jobs.empty():
                    job = self._jobs.get()
                    if job is not None:
                        job.future.cancel()
            for _ in range(self._threads):
                self._jobs.put(None)
        for thread in threads:
            thread.join()

    def _start(self) -> None:
        self._threads += 1
        self._started += 1
        name = f"{self._name}-{self._started}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        thread = threading.current_thread()
        yield_cores(self._nice)
        while True:
            job = self._jobs.get()
            if job is None:
                return
            if job.future.set_running_or_notify_cancel():
                self._running[job.future] = thread
                try:
                    result = job.call()
                except BaseException as error:  # noqa: BLE001 - handed to the waiter
                    job.future.set_exception(error)
                else:
                    job.future.set_result(result)
                with self._lock:
                    self._running.pop(job.future, None)
                    if thread in self._lost:
                        self._lost.discard(thread)
                        return
            del job
            self._idle.release()


class Watchdog:
    """Writes off the thread of a job that takes longer than a limit.

    Lives on the event loop. A job that still waits for a thread gets the whole limit again.

    Args:
        loop: the running one.
        workers: where the job was submitted.
        job: the job.
        limit_s: seconds it may take; infinite watches nothing.
        abandoned: called when its thread was written off.
    """

    __slots__ = ("_abandoned", "_job", "_limit_s", "_loop", "_timer", "_workers")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: WorkerThreads,
        job: Future[Any],
        limit_s: float,
        abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._job = job
        self._limit_s = limit_s
        self._abandoned = abandoned
        self._timer: asyncio.TimerHandle | None = None
        if limit_s < float("inf"):
            self._timer = loop.call_later(limit_s, self._check)

    def cancel(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        if self._job.done():
            return
        if self._workers.abandon(self._job):
            self._abandoned()
        else:  # it still waits for a thread
            self._timer = self._loop.call_later(self._limit_s, self._check)
