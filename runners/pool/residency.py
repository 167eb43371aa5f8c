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
from runners.pool.lanes import Job, Lanes
from runners.pool.memory import Memory
from runners.pool.roster import Roster
from runners.pool.slot import CPU, Slot, State
from runners.protocol import Active, TensorBackend, TextBackend
from turnout.errors import LoadFailed, OverMemoryBudget, RunnerError, TurnoutError

logger = logging.getLogger("turnout.pool")

_CLOSING_S = 0.002
_LOOK_S = 0.2
_UNBOUNDED_LANES = 8
_MEASURED_LOADS = 2


class Residency:
    """Who is loaded.

    Args:
        roster: the pool's models.
        budget: what fits.
        health: told of loads that fail.
        memory: this process's memory.
        clock: monotonic seconds.
        urgency: by priority of a class, one over its deadline in 1/s.
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
        came_up: Callable[[str, Active], None],
        went: Callable[[str, Active], None],
    ) -> None:
        self._roster = roster
        self._budget = budget
        self._health = health
        self._memory = memory
        self._clock = clock
        self._came_up = came_up
        self._went = went
        lanes = 1 if budget.limits else _UNBOUNDED_LANES
        self.lanes = Lanes(lanes, urgency, self._run)
        self._released = asyncio.Event()
        self._stopping = False
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
        await asyncio.gather(*(self.close(slot) for slot in self._roster), return_exceptions=True)
        self._threads.shutdown(wait=False)

    async def _run(self, job: Job) -> None:
        slot = job.slot
        try:
            while slot.state is State.CLOSING:
                await asyncio.sleep(_CLOSING_S)
            await self._make_room(job)
            await self._load(slot)
        except Exception as error:
            slot.state = State.COLD
            problem = _as_ours(slot.name, error)
            if isinstance(problem, RunnerError) and not (slot.parked or self._stopping):
                self._health.quarantine(slot, problem.problem)
            raise problem from error

    async def _make_room(self, job: Job) -> None:
        """Evict until the model fits; while everybody else is in use, wait."""
        slot = job.slot
        self.refuse_broken(slot)
        while not self._budget.fits(slot):
            self.refuse(slot)
            going = self._budget.who_goes_for(slot)
            if going is not None:
                await self.evict(going)
            elif not (job.waiters or job.wanted):
                raise OverMemoryBudget(
                    f"model {slot.name!r} was not loaded: every other model is in use",
                    retry_after_s=1.0,
                )
            else:
                await self.until_released()

    async def _load(self, slot: Slot) -> None:
        slot.state, slot.loading_since_s = State.LOADING, self._clock()
        measures = self._measures(slot)
        before = await self.settled_bytes() if measures else 0
        inner = slot.make()
        began_s = self._clock()
        await inner.start()
        slot.load_s = self._clock() - began_s
        slot.loads += 1
        self._kinds.add(slot.kind)
        if measures and len(self.lanes.running) == 1:
            slot.took(await self.settled_bytes() - before)
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
        try:
            await inner.stop()
        finally:
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
