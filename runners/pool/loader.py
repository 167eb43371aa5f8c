"""Loads and evictions: one load a model at a time, the most urgent first, room made by worth.

Lives on the event loop; only loading, closing and trimming happen on threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

from runners.pool.budget import Budget, mib
from runners.pool.health import Health
from runners.pool.load_queue import Job, Lanes, NoRoom
from runners.pool.memory import Memory
from runners.pool.overdue import Overdue
from runners.pool.roster import Roster
from runners.pool.slot import CPU, Slot, State
from runners.protocol import ActiveEngine, TensorBackend, TextBackend
from turnout.errors import LoadFailed, OverMemoryBudget, RunnerError, TurnoutError

logger = logging.getLogger("turnout.pool")

_CLOSING_S = 0.002
_LOOK_S = 0.2
_UNBOUNDED_LANES = 8
_MEASURED_LOADS = 2
_HOPE_S = 10.0  # that a load without room is tried
_LEAST_HOLD_S = 0.05


class Residency:
    """Who is loaded.

    Args:
        roster: the pool's models.
        budget: what fits.
        health: told of loads that fail.
        memory: this process's memory.
        clock: monotonic seconds.
        urgency: by priority of a class, one over its deadline in 1/s.
        patience: share of its deadline that a load waits before it evicts what is worth more.
        came_up: told of each load, and what really runs.
        went: told of each model that is no longer loaded.
    """

    def __init__(
        self,
        roster: Roster,
        budget: Budget,
        health: Health,
        memory: Memory,
        clock: Callable[[], float],
        urgency: Mapping[int, float],
        patience: float,
        came_up: Callable[[str, ActiveEngine], None],
        went: Callable[[str, ActiveEngine], None],
    ) -> None:
        self._roster = roster
        self._budget = budget
        self._health = health
        self._memory = memory
        self._clock = clock
        self._came_up = came_up
        self._went = went
        lanes = 1 if budget.limits else _UNBOUNDED_LANES
        self._urgency = urgency
        self._patience = patience
        self.lanes = Lanes(lanes, urgency, self._run, self._hold_s)
        self._overdue = Overdue(roster, self._ended_late)
        self._released = asyncio.Event()
        self._stopping = False
        self._moves = self._closing = 0  # loads and closes begun, closes under way
        self._kinds: set[str] = set()
        self._threads: Executor = ThreadPoolExecutor(lanes + 1, thread_name_prefix="model-loader")

    def refuse_broken(self, slot: Slot) -> None:
        """Let pass what may be loaded now.

        Raises:
            LoadFailed: it rests, an operator has unloaded it, or the pool stops.
        """
        if self._stopping:
            raise LoadFailed(slot.name, "the server is stopping")
        broken = slot.broken(self._clock())
        if broken is not None:
            raise LoadFailed(slot.name, broken)

    def refuse(self, slot: Slot) -> None:
        """Let pass what may be loaded now and can fit.

        Raises:
            OverMemoryBudget: it can never fit.
            LoadFailed: see ``refuse_broken``.
        """
        never = self._budget.never_fits(slot)
        if never is not None:
            raise OverMemoryBudget(f"model {slot.name!r} {never}", retry_after_s=60.0)
        self.refuse_broken(slot)

    def released(self) -> None:
        """A model has no more work in flight: whoever waits for room may look again."""
        if not self._released.is_set():
            self._released.set()
        self.lanes.room()

    async def until_released(self) -> None:
        """Wait until work in flight ends somewhere, not for long."""
        self._released.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await self._released.wait()

    async def evict(self, names: Iterable[str]) -> None:
        """Free models to make room."""
        # Taken out at once: a request that comes before they are closed must not find them.
        going = [(slot, _detach(slot)) for slot in (self._roster.slots[name] for name in names)]
        for slot, _ in going:
            slot.evictions += 1
        await asyncio.gather(*(self._shut(slot, inner) for slot, inner in going))
        await self.settled_bytes()

    async def close(self, slot: Slot) -> None:
        """Free a model once what it has accepted is finished."""
        if await self._shut(slot, _detach(slot)) and self._budget.limits:
            await self.settled_bytes()

    async def settled_bytes(self) -> int:
        """Resident memory once what was freed is given back."""

        def settle() -> int:
            self._memory.trim()
            return self._memory.resident_bytes()

        return await asyncio.get_running_loop().run_in_executor(self._threads, settle)

    async def stop(self) -> None:
        """Finish what is accepted, then free every model."""
        self._stopping = True
        self._released.set()
        for slot in self._roster.slots.values():
            self.lanes.cancel(slot, LoadFailed(slot.name, "the server is stopping"))
        await self.lanes.finish()
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
            problem = _as_ours(slot.name, error)
            if isinstance(problem, RunnerError) and not (slot.parked or self._stopping):
                self._health.quarantine(slot, problem.problem)
            raise problem from error

    def _ended_late(self) -> None:
        self._moves += 1
        self.released()

    def _hold_s(self, slot: Slot, priority: int) -> float:
        """How long a load waits before it evicts models that are worth more, together, than it.

        A patient class loses little by it, and what else is asked of the model meanwhile shares
        the load.
        """
        urgency = self._urgency.get(priority, 0.0)
        hold_s = self._patience / urgency if urgency else 0.0
        if hold_s < _LEAST_HOLD_S or not self._budget.weighs or self._budget.fits(slot):
            return 0.0
        gains = self._budget.who_goes_for(slot, least_gain=1.0) is not None
        return 0.0 if gains else hold_s

    async def _make_room(self, job: Job) -> None:
        """Evict until the model fits; while everybody else is in use, wait."""
        slot = job.slot
        self.refuse_broken(slot)
        while not self._budget.fits(slot):
            self.refuse(slot)
            going = self._budget.who_goes_for(slot)
            if going is None:
                self._no_room(job)
                raise NoRoom
            await self.evict(going)
        job.since_s = None

    def _no_room(self, job: Job) -> None:
        """Let a load wait for room, while there is somebody to wait for it and hope.

        Raises:
            OverMemoryBudget: there is not.
        """
        name, now_s = job.slot.name, self._clock()
        if not (job.waiters or job.wanted):
            raise OverMemoryBudget(
                f"model {name!r} was not loaded: every other model is in use", retry_after_s=1.0
            )
        job.since_s = now_s if job.since_s is None else job.since_s
        if now_s - job.since_s > _HOPE_S:
            used = mib(self._budget.used_bytes(job.slot.device))
            raise OverMemoryBudget(
                f"model {name!r} found no room in {_HOPE_S:g} s: it needs "
                f"{mib(job.slot.footprint.peak_bytes)}, {used} are taken, and what might go for it "
                "is in use; raise gateway.memory_budget or unpin a model",
                retry_after_s=_HOPE_S,
            )

    async def _load(self, slot: Slot) -> None:
        slot.state, slot.loading_since_s = State.LOADING, self._clock()
        measures = self._measures(slot)
        before = await self.settled_bytes() if measures else 0
        alone = len(self.lanes.running) == 1 and not (self._closing or self._overdue.any)
        self._moves += 1
        moves = self._moves
        inner = slot.make()
        began_s = self._clock()
        await self._overdue.start(slot, inner)
        slot.load_s = self._clock() - began_s
        slot.loads += 1
        self._kinds.add(slot.kind)
        if measures:
            after = await self.settled_bytes()
            if alone and moves == self._moves:
                slot.took(after - before)
        if not self._roster.holds(slot):
            await inner.stop()
            raise LoadFailed(slot.name, "was removed from the catalog")
        slot.inner, slot.state = inner, State.RESIDENT
        slot.loaded_s = slot.used_s = self._clock()
        slot.why_not = None
        logger.log(
            logging.INFO if slot.loads == 1 else logging.DEBUG,
            "model %s is loaded after %.3f s, takes %s",
            slot.name, slot.load_s, mib(slot.footprint.resident_bytes),
        )  # fmt: skip
        if inner.active is not None:
            self._came_up(slot.name, inner.active)

    def _measures(self, slot: Slot) -> bool:
        """Whether what a load takes is measured; the first of an engine also imports libraries."""
        return (
            bool(self._budget.limits)
            and slot.device == CPU
            and slot.loads < _MEASURED_LOADS
            and (not slot.kind or slot.kind in self._kinds)
        )

    async def _shut(self, slot: Slot, inner: TensorBackend | TextBackend | None) -> bool:
        """Free what was detached, once what it has accepted is finished; whether there was any."""
        if inner is None:
            return False
        active = inner.active
        self._moves += 1
        self._closing += 1
        try:
            await inner.stop()
        finally:
            self._closing -= 1
            # Somebody may have asked for it again meanwhile.
            slot.state = State.WAITING if self.lanes.waits(slot) else State.COLD
            if active is not None:
                self._went(slot.name, active)
        return True


def why(error: TurnoutError) -> str:
    """The problem in a few words."""
    return error.problem if isinstance(error, RunnerError) else str(error)


def _detach(slot: Slot) -> TensorBackend | TextBackend | None:
    inner, slot.inner = slot.inner, None
    if inner is not None:
        slot.state = State.CLOSING
    return inner


def _as_ours(name: str, error: Exception) -> TurnoutError:
    if isinstance(error, TurnoutError):
        return error
    logger.error("model %s failed to load", name, exc_info=error)
    return LoadFailed(name, f"{type(error).__name__}: {error}")
