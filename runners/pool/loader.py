"""Loads and evictions: one load a model at a time, the most urgent first, room made by worth.

Lives on the event loop; only loading, closing and trimming happen on threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from runners.pool.budget import Budget, mib
from runners.pool.eviction import Demand
from runners.pool.health import Health
from runners.pool.load_queue import Job, LoadQueue, NoRoom
from runners.pool.memory import settle
from runners.pool.slot import CPU, Roster, Slot, State
from runners.protocol import TensorBackend, TextBackend
from turnout.errors import LoadFailed, OverMemoryBudget, RunnerError, TurnoutError

logger = logging.getLogger("turnout.pool")

_CLOSING_S = 0.002
_RELEASE_WAIT_S = 0.2
_UNBOUNDED_LANES = 8
_MEASURED_LOADS = 2
_MAX_ROOM_WAIT_S = 10.0  # that a load without room is tried


class Loader:
    """Loads the models of one pool, evicts and closes them.

    Args:
        budget: the memory account, with the pool's models.
        health: quarantines models whose load fails.
        clock: monotonic seconds.
        urgency: by priority of a class, one over its deadline in 1/s.
        patience: share of its deadline that a load waits before it evicts what is worth more.

    Attributes:
        queue: the loads that wait and those under way.
    """

    def __init__(
        self,
        budget: Budget,
        health: Health,
        clock: Callable[[], float],
        urgency: Mapping[int, float],
        patience: float,
    ) -> None:
        self._roster = budget.roster
        self._budget = budget
        self._health = health
        self._clock = clock
        lanes = 1 if budget.limits else _UNBOUNDED_LANES
        self.queue = LoadQueue(lanes, urgency, self._run, budget.loses_by, patience)
        self._overdue = OverdueLoads(self._roster, self._overdue_ended)
        self._released = asyncio.Event()
        self._stopping = False
        self._moves = self._closing = 0  # loads and closes begun, closes under way
        self._loaded_kinds: set[str] = set()
        self._threads: Executor = ThreadPoolExecutor(lanes + 1, thread_name_prefix="model-loader")

    def check_loadable(self, slot: Slot) -> None:
        """Refuse a model that must not be loaded now.

        Raises:
            LoadFailed: it is quarantined, an operator has unloaded it, or the pool stops.
        """
        if self._stopping:
            raise LoadFailed(slot.name, "the server is stopping")
        reason = slot.broken(self._clock())
        if reason is not None:
            raise LoadFailed(slot.name, reason)

    def check_fits(self, slot: Slot) -> None:
        """Refuse a model that must not be loaded now, or never fits.

        Raises:
            OverMemoryBudget: it can never fit.
            LoadFailed: see ``check_loadable``.
        """
        reason = self._budget.never_fits(slot)
        if reason is not None:
            raise OverMemoryBudget(f"model {slot.name!r} {reason}", retry_after_s=60.0)
        self.check_loadable(slot)

    def released(self) -> None:
        """Wake the loads that wait for room: a model has no more work in flight."""
        if not self._released.is_set():
            self._released.set()
        self.queue.retry_for_room()

    async def until_released(self) -> None:
        """Wait until work in flight ends somewhere, at most ``_RELEASE_WAIT_S``."""
        self._released.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_WAIT_S):
                await self._released.wait()

    async def evict(self, names: Iterable[str]) -> None:
        """Free models to make room."""
        # Detached at once: a request that comes before they are closed must not reach them.
        victims = [(slot, _detach(slot)) for slot in (self._roster.slots[name] for name in names)]
        for slot, _ in victims:
            slot.evictions += 1
        await asyncio.gather(*(self._shut(slot, backend) for slot, backend in victims))
        await self.settled_bytes()

    async def close(self, slot: Slot) -> None:
        """Free a model once its accepted work is finished."""
        if await self._shut(slot, _detach(slot)) and self._budget.limits:
            await self.settled_bytes()

    async def settled_bytes(self) -> int:
        """Return resident memory once freed memory is given back to the system."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, settle, self._budget.memory)

    async def stop(self) -> None:
        """Finish accepted work, then free every model."""
        self._stopping = True
        self._released.set()
        for slot in self._roster.slots.values():
            self.queue.cancel(slot, LoadFailed(slot.name, "the server is stopping"))
        await self.queue.finish()
        await self._overdue.stop()
        await asyncio.gather(*(self.close(slot) for slot in self._roster), return_exceptions=True)
        self._threads.shutdown(wait=False)

    async def _run(self, job: Job) -> None:
        slot = job.slot
        try:
            while slot.state is State.CLOSING:
                await asyncio.sleep(_CLOSING_S)
            await self._make_room(job)
            await self._load(slot)
        except NoRoom:
            raise
        except Exception as error:
            slot.state = State.COLD
            failure = _as_turnout_error(slot.name, error)
            if isinstance(failure, RunnerError) and not (slot.parked or self._stopping):
                self._health.quarantine(slot, failure.problem)
            raise failure from error

    def _overdue_ended(self) -> None:
        self._moves += 1
        self.released()

    async def _make_room(self, job: Job) -> None:
        """Evict until the model fits.

        Raises:
            NoRoom: every model that might be evicted is in use, and the job may still wait.
            OverMemoryBudget: it may not wait longer.
        """
        slot = job.slot
        self.check_loadable(slot)
        while not self._budget.fits(slot):
            self.check_fits(slot)
            victims = self._budget.victims_for(slot)
            if victims is None:
                self._check_wait(job)
                raise NoRoom
            await self.evict(victims)
        job.no_room_since_s = None

    def _check_wait(self, job: Job) -> None:
        """Let a load wait for room, while somebody waits for it and not for too long.

        Raises:
            OverMemoryBudget: nobody waits for it, or it has waited too long.
        """
        name, now_s = job.slot.name, self._clock()
        if not (job.waiters or job.wanted):
            raise OverMemoryBudget(
                f"model {name!r} was not loaded: every other model is in use", retry_after_s=1.0
            )
        if job.no_room_since_s is None:
            job.no_room_since_s = now_s
        if now_s - job.no_room_since_s > _MAX_ROOM_WAIT_S:
            used = mib(self._budget.used_bytes(job.slot.device))
            raise OverMemoryBudget(
                f"model {name!r} found no room in {_MAX_ROOM_WAIT_S:g} s: it needs "
                f"{mib(job.slot.footprint.peak_bytes)}, {used} are taken, and what might go for it "
                "is in use; raise gateway.memory_budget or unpin a model",
                retry_after_s=_MAX_ROOM_WAIT_S,
            )

    async def _load(self, slot: Slot) -> None:
        slot.state, slot.loading_since_s = State.LOADING, self._clock()
        measures = self._measures(slot)
        before_bytes = await self.settled_bytes() if measures else 0
        alone = len(self.queue.running) == 1 and not (self._closing or self._overdue.any)
        self._moves += 1
        moves = self._moves
        backend = slot.make()
        start_s = self._clock()
        await self._overdue.start(slot, backend)
        slot.load_s = self._clock() - start_s
        slot.loads += 1
        self._loaded_kinds.add(slot.kind)
        if measures:
            after_bytes = await self.settled_bytes()
            if alone and moves == self._moves:
                slot.observe_growth(after_bytes - before_bytes)
        if not self._roster.holds(slot):
            await backend.stop()
            raise LoadFailed(slot.name, "was removed from the catalog")
        slot.inner, slot.state = backend, State.RESIDENT
        slot.loaded_s = slot.used_s = self._clock()
        slot.why_not = None
        logger.log(
            logging.INFO if slot.loads == 1 else logging.DEBUG,
            "model %s is loaded after %.3f s, takes %s",
            slot.name, slot.load_s, mib(slot.footprint.resident_bytes),
        )  # fmt: skip
        if backend.active is not None:
            self._roster.came_up(slot.name, backend.active)

    def _measures(self, slot: Slot) -> bool:
        """Whether a load's memory is measured; the first of an engine also imports libraries."""
        return (
            bool(self._budget.limits)
            and slot.device == CPU
            and slot.loads < _MEASURED_LOADS
            and (not slot.kind or slot.kind in self._loaded_kinds)
        )

    async def _shut(self, slot: Slot, backend: TensorBackend | TextBackend | None) -> bool:
        """Free a detached backend once its accepted work is finished; False when there is none."""
        if backend is None:
            return False
        active = backend.active
        self._moves += 1
        self._closing += 1
        try:
            await backend.stop()
        finally:
            self._closing -= 1
            # It may have been requested again meanwhile.
            slot.state = State.WAITING if self.queue.waits(slot) else State.COLD
            if active is not None:
                self._roster.went(slot.name, active)
        return True


class OverdueLoads:
    """Bounds each load of one pool, and closes those that took too long once they end.

    A load cannot be stopped from outside. What a model's latest one may still take stays reserved
    until it ends; earlier ones count by what the process is seen to take.

    Args:
        roster: the pool's models.
        ended: called when such a load has ended and its memory is free.
    """

    def __init__(self, roster: Roster, ended: Callable[[], None]) -> None:
        self._roster = roster
        self._ended = ended
        self._reserved: dict[str, Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def any(self) -> bool:
        """Whether such a load is under way."""
        return bool(self._tasks)

    async def start(self, slot: Slot, backend: TensorBackend | TextBackend) -> None:
        """Load a model, for at most its ``max_load_s``.

        Raises:
            LoadFailed: it took longer; or see ``Backend.start``.
        """
        loop = asyncio.get_running_loop()
        loading = loop.create_task(backend.start())
        limit_s = slot.max_load_s
        try:
            await asyncio.wait([loading], timeout=None if limit_s == float("inf") else limit_s)
        except asyncio.CancelledError:
            loading.cancel()
            raise
        if loading.done():
            return loading.result()
        task = loop.create_task(self._close_when_loaded(self._reserve(slot), backend, loading))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        raise LoadFailed(slot.name, f"its load took over {limit_s:g} s and was given up")

    async def stop(self) -> None:
        """Cancel the wait for all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reserve(self, slot: Slot) -> Slot:
        """Add a slot for the memory of the load that goes on, apart from the model's own."""
        reserved = replace(slot, state=State.LOADING, demand=Demand(), in_flight=0)
        earlier = self._reserved.get(slot.name)
        if earlier is not None:
            self._roster.retiring.discard(earlier)
        self._reserved[slot.name] = reserved
        self._roster.retiring.add(reserved)
        logger.error("the load of model %s took over %g s", slot.name, slot.max_load_s)
        return reserved

    async def _close_when_loaded(
        self, reserved: Slot, backend: TensorBackend | TextBackend, loading: asyncio.Task[None]
    ) -> None:
        try:
            await asyncio.wait([loading])
            if loading.exception() is None:
                logger.info("model %s came up after its load was given up: closed", reserved.name)
                await backend.stop()
        finally:
            loading.cancel()
            self._roster.retiring.discard(reserved)
            if self._reserved.get(reserved.name) is reserved:
                del self._reserved[reserved.name]
            self._ended()


def problem_of(error: TurnoutError) -> str:
    """Return the problem in a few words."""
    return error.problem if isinstance(error, RunnerError) else str(error)


def _detach(slot: Slot) -> TensorBackend | TextBackend | None:
    backend, slot.inner = slot.inner, None
    if backend is not None:
        slot.state = State.CLOSING
    return backend


def _as_turnout_error(name: str, error: Exception) -> TurnoutError:
    if isinstance(error, TurnoutError):
        return error
    logger.error("model %s failed to load", name, exc_info=error)
    return LoadFailed(name, f"{type(error).__name__}: {error}")
