"""The worker of one process: validates, runs and ends batches, beside those of other processes.

Workers know of each other only through the database. A worker leases what it works on and renews
the leases; work whose lease it has lost is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from sqlalchemy import Connection

from services.batch_api import batches, files, finalize, leases, validation
from services.batch_api.batches import Batch
from services.batch_api.concurrency import ConcurrencyWindow
from services.batch_api.job import Job, Sleep
from services.batch_api.leases import Portion, Results
from services.batch_api.targets import Endpoints
from services.database.connection import Database
from services.database.tables import now_s
from services.metrics.batches import BatchMetrics
from turnout.errors import InvalidRequest

logger = logging.getLogger("turnout.bulk")

LEASE_S = 15.0
_POLL_S = 0.5
_MEASURE_S = 2.0
_PULSE_S = 0.02
_PULSES = 3
_JOBS = 8
_SWEEP_S = 60.0


class Worker:
    """Works on the batches of a database.

    Args:
        database: the database, open.
        endpoints: run the rows.
        metrics: of the batches.
        clock: seconds since 1970, for leases.
        lease_s: how long a lease lasts unless it is renewed.
        poll_s: how often it looks for work from elsewhere.
        sleep: waits before a row is tried again.
    """

    def __init__(
        self,
        database: Database,
        endpoints: Endpoints,
        metrics: BatchMetrics,
        *,
        clock: Callable[[], float] = now_s,
        lease_s: float = LEASE_S,
        poll_s: float = _POLL_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.owner = f"{socket.gethostname()[:30]}/{os.getpid()}/{os.urandom(6).hex()}"
        self._database = database
        self._endpoints = endpoints
        self._metrics = metrics
        self._clock = clock
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._sleep = sleep
        self._holder = validation.Holder(self.owner, clock, lease_s)
        self._woken = asyncio.Event()
        self._jobs: dict[str, asyncio.Task[int]] = {}
        self._idle: set[str] = set()
        self._validating: asyncio.Task[None] | None = None
        self._measured_s = float("-inf")
        self._windows: dict[str, ConcurrencyWindow] = {}
        self._held: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the worker's loops."""
        self._loops = [
            asyncio.ensure_future(loop())
            for loop in (self._work, self._renew, self._measure_lag, self._delete_expired)
        ]

    async def stop(self) -> None:
        """Cancel what runs and release its leases, so that other workers go on at once."""
        validating = [] if self._validating is None else [self._validating]
        self._holder.stopping.set()
        tasks = [*self._loops, *self._jobs.values()]
        for task in tasks:
            task.cancel()
        tasks += validating
        await asyncio.gather(*tasks, return_exceptions=True)
        self._jobs.clear()
        await self._database.write(lambda c: leases.release(c, self.owner))

    def wake(self) -> None:
        """Look for work now: a batch was created or cancelled."""
        self._woken.set()

    async def take(self, batch_id: str) -> Portion | None:
        """See ``PortionQueue.take``."""

        def work(connection: Connection) -> Portion | None:
            return leases.claim(connection, batch_id, self.owner, self._clock(), self._lease_s)

        taking = asyncio.ensure_future(self._database.write(work))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # A thread can't be cancelled: it may still lease the portion, and nobody would run it.
            if (portion := await taking) is not None:
                await self._give_back([portion.key])
            raise

    async def complete(self, portion: Portion, results: Results) -> None:
        """See ``PortionQueue.complete``."""

        def work(connection: Connection) -> bool:
            return leases.complete(connection, portion, self.owner, results, self._clock())

        if await self._database.write(work):
            self._metrics.finished(results.completed, results.failed)
        else:
            logger.info("rows %d on of %s were taken over", portion.first_row, portion.batch_id)

    def running(self, portion: Portion, task: asyncio.Task[None]) -> None:
        """See ``PortionQueue.running``."""
        self._held[portion.key] = task
        task.add_done_callback(lambda done: self._portion_ended(portion, done))

    def _portion_ended(self, portion: Portion, task: asyncio.Task[None]) -> None:
        if self._held.get(portion.key) is task:
            del self._held[portion.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("rows %d on of %s: %r", portion.first_row, portion.batch_id, error)

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                more = await self.turn()
            except Exception:
                logger.exception("the bulk worker failed; trying again")
                more = False
            if not more:
                # Not wait_for: until Python 3.12 it loses a cancellation that comes as it is woken.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._woken.wait()

    async def turn(self) -> bool:
        """Take every step that is due; whether more is due at once."""
        now_s = self._clock()
        active = await self._database.read(batches.active)
        await self._cancel_ended({each.id for each in active if each.status == "in_progress"})
        if self._validating is None and any(each.status == "validating" for each in active):
            self._validating = asyncio.ensure_future(self._validate())
        more = False
        for each in active:
            if finalize.due(each, now_s):
                work = partial(finalize.step, batch_id=each.id, now_s=now_s)
                more = await self._database.write(work) or more
        # Batches that had no portion to lease the last time come after the others.
        for each in sorted(active, key=lambda each: each.id in self._idle):
            if each.status == "in_progress" and len(self._jobs) < _JOBS:
                self._start_job(each)
        await self._measure()
        return more

    async def _cancel_ended(self, in_progress: set[str]) -> None:
        """Cancel the jobs of batches that were cancelled or have expired."""
        for batch_id in [each for each in self._jobs if each not in in_progress]:
            job = self._jobs.get(batch_id)
            if job is None:  # it ended while another job was cancelled
                continue
            keys = [key for key in self._held if key[0] == batch_id]
            job.cancel()
            await asyncio.wait({job})
            await self._give_back(keys)

    async def _give_back(self, keys: list[tuple[str, int]]) -> None:
        await self._database.write(lambda c: leases.release(c, self.owner, keys))

    async def _validate(self) -> None:
        """Validate the oldest batch that waits for validation."""
        try:
            await self._database.apart(self._validate_now)
            self._woken.set()
        except Exception:
            logger.exception("a batch could not be validated; trying again")
        finally:
            self._validating = None

    def _validate_now(self) -> None:
        """Lease a batch and validate it. Blocks; runs in a thread."""
        batch = self._database.write_now(lambda c: validation.claim(c, self._holder))
        if batch is None:
            return
        try:
            rows = self._endpoints.portion_rows(batch.endpoint)
        except InvalidRequest as error:  # the catalog has changed since it was taken
            validation.fail(self._database, batch, self._holder, str(error))
            return
        validation.validate(self._database, batch, self._holder, rows)

    def _start_job(self, batch: Batch) -> None:
        if batch.id in self._jobs:
            return
        try:
            most = self._endpoints.most_rows(batch.endpoint)
        except InvalidRequest as error:
            logger.debug("batch %s is for another gateway: %s", batch.id, error)
            return
        window = ConcurrencyWindow(most, time.monotonic)
        job = Job(batch.id, batch.endpoint, self, self._endpoints, window, self._sleep)
        self._windows[batch.id] = window
        self._jobs[batch.id] = task = asyncio.ensure_future(job.run())
        task.add_done_callback(lambda done: self._job_ended(batch.id, done))

    def _job_ended(self, batch_id: str, task: asyncio.Task[int]) -> None:
        self._jobs.pop(batch_id, None)
        self._windows.pop(batch_id, None)
        self._idle.discard(batch_id)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            logger.error("batch %s stopped here, and will be tried again: %r", batch_id, error)
        elif task.result():
            self._woken.set()
        else:
            self._idle.add(batch_id)

    async def _measure(self) -> None:
        if time.monotonic() - self._measured_s > _MEASURE_S:
            self._measured_s = time.monotonic()
            self._metrics.counted(*await self._database.read(batches.counts))
        self._metrics.running.set(sum(window.in_use for window in self._windows.values()))
        self._metrics.window.set(sum(window.limit for window in self._windows.values()))

    async def _renew(self) -> None:
        """Renew the leases, and cancel the portions whose lease was lost."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            held = dict(self._held)

            def work(connection: Connection, held=held) -> set[tuple[str, int]]:
                keys = list(held)
                kept = leases.renew(connection, self.owner, keys, self._clock(), self._lease_s)
                leases.release(connection, self.owner, [k for k in keys if k not in kept])
                return kept

            try:
                kept = await self._database.write(work)
            except Exception:
                logger.exception("leases could not be renewed; trying again")
                continue
            for key, task in held.items():
                if key not in kept:
                    task.cancel()

    async def _delete_expired(self) -> None:
        """Delete files that have expired."""
        while True:
            try:
                removed = await self._database.write(lambda c: files.remove_stale(c, self._clock()))
            except Exception:
                logger.exception("expired files could not be deleted; trying again")
                removed = 0
            if not removed:
                await asyncio.sleep(_SWEEP_S)

    async def _measure_lag(self) -> None:
        """Report to the windows how late the event loop runs."""
        worst_s, pulses = 0.0, 0
        while True:
            if not self._windows:
                await asyncio.sleep(_POLL_S)
                continue
            due_s = time.monotonic() + _PULSE_S
            await asyncio.sleep(_PULSE_S)
            worst_s = max(worst_s, time.monotonic() - due_s)
            pulses += 1
            if pulses == _PULSES:
                for window in self._windows.values():
                    window.lagged(worst_s)
                worst_s, pulses = 0.0, 0
