"""The pool of a process's models: requested, loaded, kept, evicted.

``budget`` decides what fits, ``loader`` loads and evicts, ``health`` quarantines. Resident memory
is read before each load and several times a second, so the next choice corrects for what a model
takes beyond its estimate, and for everything else in the process.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from runners.pool.budget import Budget
from runners.pool.eviction import Order, by_worth
from runners.pool.health import Health
from runners.pool.loader import Loader, problem_of
from runners.pool.memory import Memory, ProcessMemory
from runners.pool.slot import CPU, Roster, Slot, State, any_holds
from runners.protocol import ActiveEngine, TensorBackend, TextBackend
from turnout.errors import DeadlineUnreachable, LoadFailed, OverMemoryBudget, TurnoutError

logger = logging.getLogger("turnout.pool")

_TICK_S = 0.2
_LEAK_TICKS = 10
_NEVER_S = float("inf")
_AHEAD_A_TICK = 8
_PATIENCE = 0.01  # 6 s of ten minutes
_GAIN = 1.5  # how much more worth a prefetched model must be than those that go for it


class Pool:
    """Every local model of a process.

    Args:
        budgets: bytes by device (``cpu``, ``cuda:0``); a device without one is not limited.
        urgency: by priority of a class, one over its deadline in 1/s.
        order: who goes first when room is needed.
        patience: share of its deadline that a load waits before it evicts what is worth more.
        memory: this process's memory.
        clock: monotonic seconds.
        minute: the minute of the day in UTC, for models that are kept loaded by schedule.
        came_up: called with each model that was loaded, and what really runs.
        went: called with each model that is no longer loaded.
    """

    def __init__(
        self,
        budgets: Mapping[str, int] | None = None,
        *,
        urgency: Mapping[int, float] | None = None,
        order: Order = by_worth,
        patience: float = _PATIENCE,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.monotonic,
        minute: Callable[[], int] = lambda: _minute_of_day(datetime.now(UTC)),
        came_up: Callable[[str, ActiveEngine], None] = lambda name, active: None,
        went: Callable[[str, ActiveEngine], None] = lambda name, active: None,
    ) -> None:
        self.clock = clock
        self._minute = minute
        self._urgency = dict(urgency or {0: 1.0})
        self._roster = Roster(came_up, went)
        limits, memory = dict(budgets or {}), memory or ProcessMemory()
        self._budget = Budget(limits, self._roster, memory, order, self.worth)
        self._health = Health(self._roster, memory, limits.get(CPU), clock)
        self._loader = Loader(self._budget, self._health, clock, self._urgency, patience)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def slots(self) -> Mapping[str, Slot]:
        """Every model by name, without those retiring."""
        return self._roster.slots

    @property
    def budgets(self) -> Mapping[str, int]:
        """Bytes by device."""
        return self._budget.limits

    def add(self, slot: Slot) -> None:
        """Add a model, cold; one that can never fit is out of service from now on.

        An earlier one of its name is retired, and counts until it is closed.
        """
        self._roster.add(slot)
        self._judge(slot)

    async def retire(self, slot: Slot) -> None:
        """Remove a model; a new one of its name may come at once.

        Requests that wait for it or run on it are served first.
        """
        self._roster.remove(slot)
        try:
            while slot.in_flight:
                await self._loader.until_released()
            slot.pinned, slot.parked = False, True
            await self._loader.close(slot)
        finally:
            self._roster.retiring.discard(slot)

    def retune(self, budgets: Mapping[str, int], urgency: Mapping[int, float]) -> None:
        """Replace the budgets and the deadlines."""
        self._budget.limits.update(budgets)
        self._urgency.clear()
        self._urgency.update(urgency)

    def start(self) -> None:
        """Begin to watch the budget and growth."""
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Finish accepted work, then free every model."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self._loader.stop()

    async def load(self, name: str, priority: int = 9) -> None:
        """Load a model and wait for it, whoever else asks for it or not.

        Raises:
            LoadFailed: it cannot be loaded, with the reason.
            OverMemoryBudget: it can never fit.
        """
        slot = self.slots[name]
        slot.retry_s, slot.parked = 0.0, False
        if slot.inner is None:
            await asyncio.shield(self._loader.queue.job(slot, priority, wanted=True).done)

    async def unload(self, name: str) -> None:
        """Free a model once its accepted work is finished, and refuse it until ``load``."""
        slot = self.slots[name]
        slot.parked = True
        problem = "was unloaded by an operator while it waited to load"
        self._loader.queue.cancel(slot, LoadFailed(name, problem))
        await self._loader.queue.settled(slot)
        await self._loader.close(slot)

    async def pin(self, name: str, pinned: bool) -> None:
        """Load a model and never evict it, or let it be evicted again.

        Raises:
            LoadFailed: it cannot be loaded.
            OverMemoryBudget: it can never fit beside what is pinned.
        """
        slot = self.slots[name]
        if pinned and (never := self._budget.never_fits(slot)):
            raise OverMemoryBudget(f"model {name!r} {never}", retry_after_s=60.0)
        slot.pinned = pinned
        if pinned:
            await self.load(name, priority=0)

    async def acquire(
        self, slot: Slot, priority: int, deadline_s: float
    ) -> TensorBackend | TextBackend:
        """Wait until a model is loaded, on behalf of one request that holds its slot.

        Raises:
            DeadlineUnreachable: the deadline comes first.
            LoadFailed: it cannot be loaded, with the reason.
            OverMemoryBudget: what is loaded is in use, or the model can never fit.
        """
        while slot.inner is None:
            self._loader.check_fits(slot)
            left_s = deadline_s - self.clock()
            job = self._loader.queue.job(slot, priority)
            job.waiters += 1
            try:
                async with asyncio.timeout(None if left_s == float("inf") else max(left_s, 0.0)):
                    await asyncio.shield(job.done)
            except TimeoutError:
                raise DeadlineUnreachable(
                    f"the deadline passed while model {slot.name!r} was {slot.state.value}",
                    retry_after_s=slot.load_in_s(self.clock()),
                ) from None
            finally:
                job.waiters -= 1
        return slot.inner

    def released(self) -> None:
        """Wake the loads that wait for room: a model has no more work in flight."""
        self._loader.released()

    async def fill(self, names: Iterable[str]) -> None:
        """Load these in order while there is room; pinned ones always."""
        for name in names:
            slot = self.slots[name]
            if slot.inner is None and (slot.pinned or self._budget.fits(slot, ahead=True)):
                try:
                    await self.load(name)
                except TurnoutError as error:
                    logger.error("model %s is out of service: %s", name, problem_of(error))

    def give_up(self, backend: TensorBackend | TextBackend, reason: str) -> None:
        """Abandon a loaded model that hangs; see ``Health.give_up``."""
        self._health.give_up(backend, reason)

    def load_in_s(self, slot: Slot) -> float:
        """Expected seconds until a model is loaded if it is requested now; 0 when it is loaded."""
        if slot.inner is not None:
            return 0.0
        now_s = self.clock()
        queue = self._loader.queue
        ahead_s = sum(job.slot.load_in_s(now_s) for job in queue.running if job.slot is not slot)
        return slot.load_in_s(now_s) + ahead_s / queue.count

    def used_bytes(self, device: str) -> int:
        """Bytes that count against a device's budget now."""
        return self._budget.used_bytes(device)

    def worth(self, slot: Slot) -> float:
        """Cost a second of not having this model loaded."""
        return slot.demand.worth(self._urgency, slot.reload_s, self.clock())

    async def watch(self) -> None:
        """Evict until there is headroom; load ahead by warm windows and by worth."""
        self._health.note_growth()
        minute = self._minute()
        for slot in self.slots.values():
            slot.warm = any_holds(slot.windows, minute)
            if slot.retry_s == _NEVER_S:
                self._judge(slot)
        for device in self.budgets:
            if self._budget.over_bytes(device) > 0:
                await self._loader.settled_bytes()
                over = self._budget.over_bytes(device)
                if over > 0:
                    await self._loader.evict(self._budget.victims_on(device, over) or ())
                self._health.mark()
        for _ in range(_AHEAD_A_TICK):
            if not (self._loader.queue.idle and await self._prefetch()):
                break

    async def look_for_leaks(self) -> None:
        """Reload a model whose runs make the process grow."""
        loader = self._loader
        await self._health.look_for_leaks(loader.close, loader.settled_bytes)

    async def _tick(self) -> None:
        for ticks in itertools.count(1):
            await asyncio.sleep(_TICK_S)
            try:
                await self.watch()
                if ticks % _LEAK_TICKS == 0:
                    await self.look_for_leaks()
            except Exception:
                logger.exception("the memory budget could not be checked")

    def _judge(self, slot: Slot) -> None:
        """Put a model out of service for as long as it can never fit."""
        slot.why_not = self._budget.never_fits(slot)
        slot.retry_s = 0.0 if slot.why_not is None else _NEVER_S

    async def _prefetch(self) -> bool:
        """Load the cold model that is due, or worth most where that is a gain; False for none."""
        cold = [
            (slot.warm, self.worth(slot), slot)
            for slot in self.slots.values()
            if slot.state is State.COLD and slot.why_not is None and not slot.parked
        ]
        for due, worth, slot in sorted(cold, key=lambda candidate: candidate[:2], reverse=True):
            if not due and (worth <= 0.0 or not self._budget.weighs):
                return False
            victims: tuple[str, ...] | None = ()
            if not self._budget.fits(slot, ahead=not due):
                victims = self._budget.victims_for(slot, least_gain=0.0 if due else _GAIN)
            if victims is not None:
                await self._loader.evict(victims)
                await self._load_ahead(slot)
                return True
            if not due:
                return False
        return False

    async def _load_ahead(self, slot: Slot) -> None:
        """Load a model that no request waits for, unless its room is taken meanwhile."""
        try:
            await asyncio.shield(self._loader.queue.job(slot, 9).done)
        except TurnoutError as error:
            logger.warning("model %s was not loaded ahead: %s", slot.name, problem_of(error))


def _minute_of_day(now: datetime) -> int:
    return 60 * now.hour + now.minute
