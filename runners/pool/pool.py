"""The mechanism of the pool: loads on demand, one load a model at a time, room made by worth.

The budget is what this *process* may take of the machine: interpreter, libraries, scratch memory
and models together, because that is what a container's limit counts. Resident memory is read
before each load and several times a second, so what a model takes beyond its estimate, and what
everything else takes, is made good by the next choice.

Lives on the event loop; only loading, closing and trimming happen on threads.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from runners.pool.eviction import Order, by_worth, victims
from runners.pool.leaks import Leaks
from runners.pool.memory import Memory, ProcessMemory
from runners.pool.slot import CPU, Footprint, Slot, State
from runners.pool.windows import any_holds
from runners.protocol import Active, TensorBackend, TextBackend
from turnout.errors import (
    DeadlineUnreachable,
    LoadFailed,
    OverMemoryBudget,
    RunnerError,
    TurnoutError,
)

logger = logging.getLogger("turnout.pool")

_TICK_S = 0.2
_LEAK_TICKS = 10
_LEAK_BYTES, _LEAST_LEAK = 64 * 1024**2, 8 * 1024**2
_CLOSING_S = 0.002
_RETRY_S, _MAX_RETRY_S, _MAX_DOUBLINGS = 10.0, 600.0, 10
_NEVER_S = float("inf")
_UNBOUNDED_LANES = 8
_MEASURED_LOADS = 2
_HEADROOM = 0.03  # kept free, so that a load on demand need not wait for an eviction
_GAIN = 1.5  # how much more worth a prefetched model must be than those that go for it
_MIB = 1024**2


@dataclass(slots=True)
class _Job:
    """A load that is waited for.

    Attributes:
        done: settled when the model is loaded, or cannot be.
        waiters: requests that wait for it; at 0 nobody does any more.
        wanted: whether it goes on without waiters (start-up, an operator).
    """

    slot: Slot
    priority: int
    order: int
    done: asyncio.Future[None]
    waiters: int = 0
    wanted: bool = False


class Pool:
    """Every local model of a process.

    Args:
        budgets: bytes by device (``cpu``, ``cuda:0``); a device without one is not limited.
        urgency: by priority of a class, one over its deadline in 1/s.
        order: who goes first when room is needed.
        memory: this process's memory.
        clock: monotonic seconds.
        minute: the minute of the day in UTC, for models that are kept loaded by schedule.
        came_up: told of each load, and what really runs.
        went: told of each model that is no longer loaded.
    """

    def __init__(
        self,
        budgets: Mapping[str, int] | None = None,
        *,
        urgency: Mapping[int, float] | None = None,
        order: Order = by_worth,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.monotonic,
        minute: Callable[[], int] = lambda: _minute_of_day(datetime.now(UTC)),
        came_up: Callable[[str, Active], None] = lambda name, active: None,
        went: Callable[[str, Active], None] = lambda name, active: None,
    ) -> None:
        self.budgets = dict(budgets or {})
        self.slots: dict[str, Slot] = {}
        self.clock = clock
        self._urgency = dict(urgency or {0: 1.0})
        self._order = order
        self._memory = memory or ProcessMemory()
        self._minute = minute
        self._came_up = came_up
        self._went = went
        self._lanes = 1 if self.budgets else _UNBOUNDED_LANES
        self._jobs: list[_Job] = []
        self._running: list[_Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        self._retiring: set[Slot] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._stopping = False
        self._count = 0
        self._own = 0
        self._leaks = Leaks(_least_leak_bytes(self.budgets.get(CPU)))
        self._seen: tuple[int, dict[str, int]] | None = None
        self.loader: Executor = ThreadPoolExecutor(
            self._lanes + 1, thread_name_prefix="model-loader"
        )

    # -- what is in it -------------------------------------------------------------------

    def add(self, slot: Slot) -> None:
        """Take a model in, cold. One that can never fit is refused now, by name.

        One of its name that is there already is on its way out, and counts until it is closed.
        """
        old = self.slots.get(slot.name)
        if old is not None and old is not slot:
            self._retiring.add(old)
        self.slots[slot.name] = slot
        self._judge(slot)

    async def retire(self, slot: Slot) -> None:
        """Let a model go for good; a new one of its name may come at once.

        Who waits for it or runs on it is served first.
        """
        if self.slots.get(slot.name) is slot:
            del self.slots[slot.name]
        self._retiring.add(slot)
        try:
            while slot.in_flight:
                self._released.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._released.wait()
            slot.pinned, slot.parked = False, True
            await self._close(slot)
        finally:
            self._retiring.discard(slot)

    def retune(self, budgets: Mapping[str, int], urgency: Mapping[int, float]) -> None:
        """Go by other budgets and deadlines from now on."""
        self.budgets.update(budgets)
        self._urgency = dict(urgency)

    def start(self) -> None:
        """Begin to watch the budget and what grows."""
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Finish what is accepted, then free every model."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._stopping = True
        self._released.set()
        for slot in self.slots.values():
            self._cancel(slot, LoadFailed(slot.name, "the server is stopping"))
        pending = [task for task in self._tasks if not task.done()]
        await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.gather(
            *(self._close(slot) for slot in (*self.slots.values(), *self._retiring)),
            return_exceptions=True,
        )
        self.loader.shutdown(wait=False)

    # -- loading -------------------------------------------------------------------------

    async def load(self, name: str, priority: int = 9) -> None:
        """Load a model and wait for it, whoever else asks for it or not.

        Raises:
            LoadFailed: it cannot be loaded, with the reason.
            OverMemoryBudget: it can never fit.
        """
        slot = self.slots[name]
        slot.retry_s, slot.parked = 0.0, False
        if slot.inner is None:
            await asyncio.shield(self._job(slot, priority, wanted=True).done)

    async def unload(self, name: str) -> None:
        """Free a model once what it has accepted is finished, and leave it so until ``load``."""
        slot = self.slots[name]
        slot.parked = True
        self._cancel(slot, LoadFailed(name, "was unloaded by an operator while it waited to load"))
        loading = next((job for job in self._running if job.slot is slot), None)
        if loading is not None:
            await asyncio.wait([loading.done])
        await self._close(slot)

    async def pin(self, name: str, pinned: bool) -> None:
        """Load a model and never evict it, or let it be evicted again.

        Raises:
            LoadFailed: it cannot be loaded.
            OverMemoryBudget: it can never fit beside what is pinned.
        """
        slot = self.slots[name]
        if pinned and (never := self._never_fits(slot)):
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
            self._refuse(slot)
            left_s = deadline_s - self.clock()
            job = self._job(slot, priority)
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
        """A model has no more work in flight: whoever waits for room may look again."""
        if not self._released.is_set():
            self._released.set()

    async def fill(self, names: Iterable[str]) -> None:
        """Load these in order while there is room; pinned ones always, and the rest stays cold."""
        for name in names:
            slot = self.slots[name]
            if slot.inner is None and (slot.pinned or self._fits(slot, ahead=True)):
                try:
                    await self.load(name)
                except TurnoutError as error:
                    logger.error("model %s is out of service: %s", name, _why(error))

    def give_up(self, name: str, reason: str) -> None:
        """Leave a loaded model as it is, because it hangs; a later request loads it afresh.

        What it took stays taken: the thread that never came back still uses it.
        """
        slot = self.slots.get(name)
        if slot is None or slot.inner is None:
            return
        active, slot.inner, slot.state = slot.inner.active, None, State.COLD
        self._quarantine(slot, reason)
        logger.error("model %s is quarantined: %s", name, reason)
        if active is not None:
            self._went(name, active)

    def _quarantine(self, slot: Slot, reason: str) -> None:
        """Leave a model alone for a while, longer each time it fails before it has been well."""
        now_s = self.clock()
        if now_s - slot.retry_s > _MAX_RETRY_S:
            slot.failures = 0
        slot.failures += 1
        slot.why_not = reason
        slot.retry_s = now_s + min(
            _RETRY_S * 2 ** min(slot.failures - 1, _MAX_DOUBLINGS), _MAX_RETRY_S
        )

    # -- what is known -------------------------------------------------------------------

    def used_bytes(self, device: str = CPU) -> int:
        """What counts against a device's budget now."""
        charged = sum(
            slot.footprint.resident_bytes
            for slot in self.slots.values()
            if slot.device == device and slot.state in (State.RESIDENT, State.CLOSING)
        )
        resident = self._memory.resident_bytes() if device == CPU else 0
        return max(resident, charged)

    def load_in_s(self, slot: Slot) -> float:
        """Expected seconds until a model is loaded if it is asked for now; 0 when it is."""
        if slot.inner is not None:
            return 0.0
        now_s = self.clock()
        ahead_s = sum(job.slot.load_in_s(now_s) for job in self._running if job.slot is not slot)
        return slot.load_in_s(now_s) + ahead_s / self._lanes

    def worth(self, slot: Slot) -> float:
        """What it costs, a second, not to have this model."""
        return slot.demand.worth(self._urgency, slot.reload_s, self.clock())

    # -- inside --------------------------------------------------------------------------

    def _refuse(self, slot: Slot) -> None:
        never = self._never_fits(slot)
        if never is not None:
            raise OverMemoryBudget(f"model {slot.name!r} {never}", retry_after_s=60.0)
        self._refuse_broken(slot)

    def _refuse_broken(self, slot: Slot) -> None:
        if self._stopping:
            raise LoadFailed(slot.name, "the server is stopping")
        broken = slot.broken(self.clock())
        if broken is not None:
            raise LoadFailed(slot.name, broken)

    def _judge(self, slot: Slot) -> None:
        """Put a model out of service for as long as it cannot fit at all."""
        slot.why_not = self._never_fits(slot)
        slot.retry_s = 0.0 if slot.why_not is None else _NEVER_S

    def _never_fits(self, slot: Slot) -> str | None:
        """Why a model can never be loaded; None when it may fit one day."""
        budget = self.budgets.get(slot.device)
        if budget is None:
            return None
        own = self._own_bytes() if slot.device == CPU else 0
        pinned = sum(
            one.footprint.resident_bytes
            for one in self.slots.values()
            if one.device == slot.device and one.pinned and one is not slot
        )
        need = slot.footprint.resident_bytes + slot.footprint.extra_bytes
        if need + own + pinned <= budget:
            return None
        return (
            f"can never be loaded: it needs {_mib(need)}, and the memory budget of "
            f"{_mib(budget)} holds {_mib(own)} of the process itself and {_mib(pinned)} of pinned "
            "models; raise gateway.memory_budget or unpin a model"
        )

    def _own_bytes(self) -> int:
        """What the process takes beside its models, as of the last moment nothing was moving."""
        slots = (*self.slots.values(), *self._retiring)
        moving = (State.LOADING, State.CLOSING)
        if not any(slot.device == CPU and slot.state in moving for slot in slots):
            loaded = sum(
                slot.footprint.resident_bytes
                for slot in slots
                if slot.device == CPU and slot.state is State.RESIDENT
            )
            self._own = max(self._memory.resident_bytes() - loaded, 0)
        return self._own

    def _free_bytes(self, device: str) -> float:
        budget = self.budgets.get(device)
        if budget is None:
            return float("inf")
        reserved = sum(
            job.slot.footprint.resident_bytes + job.slot.footprint.extra_bytes
            for job in self._running
            if job.slot.device == device and job.slot.state is State.LOADING
        )
        return budget - self.used_bytes(device) - reserved

    def _fits(self, slot: Slot, *, ahead: bool = False) -> bool:
        """Whether there is room for a model; loaded ahead of time it leaves some for others."""
        need = slot.footprint.resident_bytes + slot.footprint.extra_bytes
        spare = _HEADROOM * self.budgets.get(slot.device, 0) if ahead else 0.0
        return need + spare <= self._free_bytes(slot.device)

    def _job(self, slot: Slot, priority: int, *, wanted: bool = False) -> _Job:
        """The one load of this model, made more urgent if this request is."""
        job = next((one for one in (*self._running, *self._jobs) if one.slot is slot), None)
        if job is None:
            done = asyncio.get_running_loop().create_future()
            done.add_done_callback(_seen)
            job = _Job(slot, priority, self._count, done)
            self._count += 1
            self._jobs.append(job)
            slot.state = State.WAITING if slot.state is State.COLD else slot.state
        job.priority = min(job.priority, priority)
        job.wanted = job.wanted or wanted
        self._pump()
        return job

    def _pump(self) -> None:
        """Start the most urgent loads there is a lane for; one lane is the most urgent class's."""
        self._jobs.sort(key=lambda job: (job.priority, job.order))
        first = min(self._urgency)
        while self._jobs:
            spare = 1 if self._jobs[0].priority <= first else 0
            if len(self._running) >= self._lanes + spare:
                return
            job = self._jobs.pop(0)
            self._running.append(job)
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, job: _Job) -> None:
        slot = job.slot
        try:
            while slot.state is State.CLOSING:
                await asyncio.sleep(_CLOSING_S)
            await self._make_room(job)
            await self._load(slot)
        except asyncio.CancelledError:
            _fail(job, LoadFailed(slot.name, "its load was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            problem = _as_ours(slot.name, error)
            if isinstance(problem, RunnerError) and not (slot.parked or self._stopping):
                self._quarantine(slot, problem.problem)
            slot.state = State.COLD
            _fail(job, problem)
        else:
            if not job.done.done():
                job.done.set_result(None)
        finally:
            self._running.remove(job)
            self._pump()

    async def _make_room(self, job: _Job) -> None:
        """Evict until the model fits; wait where everything that might go is in use."""
        slot = job.slot
        self._refuse_broken(slot)
        while not self._fits(slot):
            self._refuse(slot)
            going = self._victims(slot)
            if going is not None:
                await self._evict(going)
            elif not (job.waiters or job.wanted):
                raise OverMemoryBudget(
                    f"model {slot.name!r} was not loaded: every other model is in use",
                    retry_after_s=1.0,
                )
            else:
                self._released.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._released.wait()
                self._look_at_windows()

    def _victims(self, slot: Slot, *, least_gain: float = 0.0) -> tuple[str, ...] | None:
        need = slot.footprint.resident_bytes + slot.footprint.extra_bytes
        residents = [
            one.as_resident(self.worth(one))
            for one in self.slots.values()
            if one.state is State.RESIDENT and one.device == slot.device
        ]
        going = victims(residents, int(need - self._free_bytes(slot.device)), self._order)
        if going is None or not least_gain:
            return going
        lost = sum(one.worth for one in residents if one.name in going)
        return going if self.worth(slot) > least_gain * lost else None

    async def _evict(self, names: Iterable[str]) -> None:
        # Taken out at once: a request that comes before they are closed must not find them.
        going = [(self.slots[name], self._detach(self.slots[name])) for name in names]
        for slot, _ in going:
            slot.evictions += 1
        await asyncio.gather(*(self._shut(slot, inner) for slot, inner in going))

    async def _load(self, slot: Slot) -> None:
        slot.state, slot.loading_since_s = State.LOADING, self.clock()
        measures = slot.loads < _MEASURED_LOADS and slot.device == CPU and bool(self.budgets)
        before = await self._settled_bytes() if measures else 0
        inner = slot.make()
        began_s = self.clock()
        await inner.start()
        slot.load_s = self.clock() - began_s
        slot.loads += 1
        if measures and len(self._running) == 1:
            self._measured(slot, await self._settled_bytes() - before)
        if self.slots.get(slot.name) is not slot and slot not in self._retiring:
            await inner.stop()
            raise LoadFailed(slot.name, "was removed from the catalog")
        slot.inner, slot.state = inner, State.RESIDENT
        slot.loaded_s = slot.used_s = self.clock()
        slot.why_not = None
        logger.log(
            logging.INFO if slot.loads == 1 else logging.DEBUG,
            "model %s is loaded after %.3f s, takes %s",
            slot.name, slot.load_s, _mib(slot.footprint.resident_bytes),
        )  # fmt: skip
        if inner.active is not None:
            self._came_up(slot.name, inner.active)

    def _measured(self, slot: Slot, grown_bytes: int) -> None:
        """Correct what is believed of a model by what its load took."""
        if grown_bytes > 0:
            slot.footprint = Footprint(grown_bytes, slot.footprint.extra_bytes)
            slot.measured = True

    async def _close(self, slot: Slot) -> None:
        await self._shut(slot, self._detach(slot))

    def _detach(self, slot: Slot) -> TensorBackend | TextBackend | None:
        inner, slot.inner = slot.inner, None
        if inner is not None:
            slot.state = State.CLOSING
        return inner

    async def _shut(self, slot: Slot, inner: TensorBackend | TextBackend | None) -> None:
        """Free what was detached, once what it has accepted is finished."""
        if inner is None:
            return
        active = inner.active
        try:
            await inner.stop()
            if self.budgets:
                await self._settled_bytes()
        finally:
            # Somebody may have asked for it again meanwhile.
            waits = any(job.slot is slot for job in self._jobs)
            slot.state = State.WAITING if waits else State.COLD
            if active is not None:
                self._went(slot.name, active)

    async def _settled_bytes(self) -> int:
        """Resident memory once what was freed is given back."""

        def settle() -> int:
            self._memory.trim()
            return self._memory.resident_bytes()

        return await asyncio.get_running_loop().run_in_executor(self.loader, settle)

    def _cancel(self, slot: Slot, error: TurnoutError) -> None:
        for job in [job for job in self._jobs if job.slot is slot]:
            self._jobs.remove(job)
            if slot.state is State.WAITING:
                slot.state = State.COLD
            _fail(job, error)

    async def _tick(self) -> None:
        for ticks in itertools.count(1):
            await asyncio.sleep(_TICK_S)
            try:
                await self.watch()
                if ticks % _LEAK_TICKS == 0:
                    await self.look_for_leaks()
            except Exception:
                logger.exception("the memory budget could not be looked after")

    async def watch(self) -> None:
        """Evict what leaves no headroom; load ahead what its time or its worth asks for."""
        self._look_at_windows()
        for slot in self.slots.values():
            if slot.retry_s == _NEVER_S:
                self._judge(slot)
        for device, budget in self.budgets.items():
            limit = int((1.0 - _HEADROOM) * budget)
            over = self.used_bytes(device) - limit
            if over > 0:
                await self._settled_bytes()
                over = self.used_bytes(device) - limit
            if over > 0:
                residents = [
                    one.as_resident(self.worth(one))
                    for one in self.slots.values()
                    if one.state is State.RESIDENT and one.device == device
                ]
                going = victims(residents, over, self._order)
                await self._evict(going or ())
        if not (self._running or self._jobs):
            await self._prefetch()

    def _look_at_windows(self) -> None:
        minute = self._minute()
        for slot in self.slots.values():
            slot.warm = any_holds(slot.windows, minute)

    async def look_for_leaks(self) -> None:
        """Load a model afresh whose runs make the process grow."""
        unexplained = self._memory.resident_bytes() - sum(
            slot.footprint.resident_bytes
            for slot in self.slots.values()
            if slot.device == CPU and slot.state is not State.COLD
        )
        used = {name: slot.hits + slot.misses for name, slot in self.slots.items()}
        before, self._seen = self._seen, (unexplained, used)
        if before is None or self._running:
            return
        runs = {name: count - before[1].get(name, 0) for name, count in used.items()}
        self._leaks.observe(
            {name: count for name, count in runs.items() if count > 0}, unexplained - before[0]
        )
        for name, slot in list(self.slots.items()):
            a_run = self._leaks.leaking(name, slot.footprint.resident_bytes)
            if a_run is None or slot.inner is None:
                continue
            slot.trouble = f"grew by about {a_run / _MIB:.2g} MiB a run; was loaded afresh"
            logger.error("model %s %s", name, slot.trouble)
            self._leaks.forget(name)
            self._seen = None
            await self._close(slot)

    async def _prefetch(self) -> None:
        """Load the cold model that is due, or worth most where that is a gain."""
        cold = [
            (slot.warm, self.worth(slot), slot)
            for slot in self.slots.values()
            if slot.state is State.COLD and slot.why_not is None and not slot.parked
        ]
        for due, worth, slot in sorted(cold, key=lambda one: one[:2], reverse=True):
            if not (due or worth > 0.0):
                return
            going: tuple[str, ...] | None = ()
            if not self._fits(slot, ahead=not due):
                going = self._victims(slot, least_gain=0.0 if due else _GAIN)
            if going is not None:
                await self._evict(going)
                await self._load_ahead(slot)
                return
            if not due:
                return

    async def _load_ahead(self, slot: Slot) -> None:
        """Load a model that nobody waits for, unless its room is taken meanwhile."""
        try:
            await asyncio.shield(self._job(slot, 9).done)
        except TurnoutError as error:
            logger.warning("model %s was not loaded ahead: %s", slot.name, _why(error))


def _least_leak_bytes(budget: int | None) -> int:
    """What a model must gain to be called leaking; under a budget little is much."""
    return _LEAK_BYTES if budget is None else min(_LEAK_BYTES, max(int(0.03 * budget), _LEAST_LEAK))


def _minute_of_day(now: datetime) -> int:
    return 60 * now.hour + now.minute


def _as_ours(name: str, error: Exception) -> TurnoutError:
    if isinstance(error, TurnoutError):
        return error
    logger.error("model %s failed to load", name, exc_info=error)
    return LoadFailed(name, f"{type(error).__name__}: {error}")


def _why(error: TurnoutError) -> str:
    return error.problem if isinstance(error, RunnerError) else str(error)


def _fail(job: _Job, error: TurnoutError) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _seen(done: asyncio.Future[None]) -> None:
    """A failure that nobody waits for any more is no error of the event loop's."""
    if not done.cancelled():
        done.exception()


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.0f} MiB"
