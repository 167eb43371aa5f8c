"""The order of loads: one at a time under a budget, and a lane more for the most urgent class."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from runners.pool.slot import Slot, State
from turnout.errors import LoadFailed, TurnoutError

_SOON_S, _AGAIN_S = 0.005, 0.2
_LEAST_HOLD_S = 0.05


@dataclass(slots=True)
class Job:
    """A load that waits or is under way.

    Attributes:
        done: settled when the model is loaded, or cannot be.
        waiters: requests that wait for it.
        wanted: whether it goes on without waiters (start-up, an operator).
        held: keeps it from a lane for now; None when it may go.
        for_room: whether it is held because there is no room for it.
        no_room_since_s: when it first had no room, by the pool's clock; None while it has.
    """

    slot: Slot
    priority: int
    order: int
    done: asyncio.Future[None]
    waiters: int = 0
    wanted: bool = False
    held: asyncio.TimerHandle | None = None
    for_room: bool = False
    no_room_since_s: float | None = None


class NoRoom(Exception):
    """Every model that might be evicted for a load is in use: other loads pass it meanwhile."""


class LoadQueue:
    """The loads of one pool, the most urgent first.

    Args:
        count: loads at the same time, without the most urgent class's own.
        urgency: by priority of a class, one over its deadline in 1/s; the lowest is most urgent.
        load: loads the model of a job; an error ends the job, except ``NoRoom``.
        loses_by: whether a load would evict models that are worth more, together, than it.
        patience: share of its deadline that such a load waits. A patient class loses little by
            it, and later requests for the model share the load.
    """

    def __init__(
        self,
        count: int,
        urgency: Mapping[int, float],
        load: Callable[[Job], Awaitable[None]],
        loses_by: Callable[[Slot], bool],
        patience: float,
    ) -> None:
        self.count = count
        self._urgency = urgency
        self._load = load
        self._loses_by = loses_by
        self._patience = patience
        self._waiting: list[Job] = []
        self.running: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs = 0

    @property
    def idle(self) -> bool:
        """Whether nothing loads, or waits for a lane."""
        return not (self.running or any(job.held is None for job in self._waiting))

    def job(self, slot: Slot, priority: int, *, wanted: bool = False) -> Job:
        """Return the one load of this model, made more urgent if this request is."""
        job = next((job for job in (*self.running, *self._waiting) if job.slot is slot), None)
        if job is None:
            done = asyncio.get_running_loop().create_future()
            done.add_done_callback(_retrieve)
            job = Job(slot, priority, self._jobs, done)
            self._jobs += 1
            self._waiting.append(job)
            slot.state = State.WAITING if slot.state is State.COLD else slot.state
            if not wanted:
                self._hold(job)
        job.wanted = job.wanted or wanted
        if wanted or priority < job.priority:
            job.priority = min(job.priority, priority)
            self._let_go(job)
        self._pump()
        return job

    def waits(self, slot: Slot) -> bool:
        """Whether a model waits for a lane."""
        return any(job.slot is slot for job in self._waiting)

    def cancel(self, slot: Slot, error: TurnoutError) -> None:
        """End the load of a model that waits for a lane."""
        for job in [job for job in self._waiting if job.slot is slot]:
            self._waiting.remove(job)
            if job.held is not None:
                job.held.cancel()
            if slot.state is State.WAITING:
                slot.state = State.COLD
            _fail(job, error)

    def retry_for_room(self) -> None:
        """Let the loads that wait for room try again, a moment later."""
        loop = asyncio.get_running_loop()
        for job in self._waiting:
            if job.for_room and job.held is not None:
                job.for_room = False
                job.held.cancel()
                job.held = loop.call_later(_SOON_S, self._let_go, job)

    async def settled(self, slot: Slot) -> None:
        """Wait for the end of a load that has a lane."""
        loading = next((job for job in self.running if job.slot is slot), None)
        if loading is not None:
            await asyncio.wait([loading.done])

    async def finish(self) -> None:
        """Wait for the end of all loads that have a lane."""
        pending = [task for task in self._tasks if not task.done()]
        await asyncio.gather(*pending, return_exceptions=True)

    def _pump(self) -> None:
        self._waiting.sort(key=lambda job: (job.priority, job.order))
        first = min(self._urgency)
        for job in [job for job in self._waiting if job.held is None]:
            spare = 1 if job.priority <= first else 0
            if len(self.running) >= self.count + spare:
                return
            self._waiting.remove(job)
            self.running.append(job)
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _hold(self, job: Job) -> None:
        urgency = self._urgency.get(job.priority, 0.0)
        hold_s = self._patience / urgency if urgency else 0.0
        if hold_s >= _LEAST_HOLD_S and self._loses_by(job.slot):
            loop = asyncio.get_running_loop()
            job.held = loop.call_later(hold_s, self._let_go, job)

    def _let_go(self, job: Job) -> None:
        if job.held is not None:
            job.held.cancel()
            job.held, job.for_room = None, False
            self._pump()

    async def _run(self, job: Job) -> None:
        try:
            await self._load(job)
        except asyncio.CancelledError:
            _fail(job, LoadFailed(job.slot.name, "its load was cancelled"))
            raise
        except NoRoom:
            job.slot.state, job.for_room = State.WAITING, True
            job.held = asyncio.get_running_loop().call_later(_AGAIN_S, self._let_go, job)
            self._waiting.append(job)
        except TurnoutError as error:
            _fail(job, error)
        else:
            if not job.done.done():
                job.done.set_result(None)
        finally:
            self.running.remove(job)
            self._pump()


def _fail(job: Job, error: TurnoutError) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _retrieve(done: asyncio.Future[None]) -> None:
    """Retrieve a failure that nobody waits for, so that the event loop does not log it."""
    if not done.cancelled():
        done.exception()
