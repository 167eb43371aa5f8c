"""The core loop of generation: schedule, step, deliver. Synchronous, without threads or clock.

One turn: drop cancelled and expired generations, admit at most one sequence, let the runner take
one step, deliver its pieces. Since at most one sequence joins a turn and the runner reads
prompts in turn with writing, a newcomer never starves running answers; and the most urgent
newcomer waits for one step at most, because the last free slot is kept for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from runners.protocol import BackendLoad, TextRunner, Ticket
from turnout.errors import (
    DeadlineUnreachable,
    InvalidRequest,
    LoadFailed,
    QueueFull,
    RunFailed,
    TurnoutError,
)
from turnout.types import Generation, Piece

T = TypeVar("T")

URGENT = 0
_BROKEN_AFTER = 3
_FIRST_GUESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Place(Generic[T]):
    """A piece of work in the waiting list."""

    item: T
    priority: int
    deadline_s: float
    arrived_s: float


class WaitingList(Generic[T]):
    """Generations that wait for a slot.

    Strict priority (0 first), earliest deadline first within it, then arrival. Work that has
    waited ``ageing_s`` longer than anything was admitted goes first once, so that bulk always
    progresses. The list is short and searched whole: a step of any model takes longer than that.

    Args:
        ageing_s: how long work waits before it goes ahead of more urgent work.
    """

    def __init__(self, ageing_s: float = 5.0) -> None:
        self._ageing_s = ageing_s
        self._places: list[Place[T]] = []
        self._admitted_aged_s = float("-inf")

    def __len__(self) -> int:
        """Number of waiting pieces."""
        return len(self._places)

    def push(self, place: Place[T]) -> None:
        """Add work."""
        self._places.append(place)

    def drop(self, item: T) -> bool:
        """Remove work whose client has gone; False when it no longer waits."""
        before = len(self._places)
        self._places = [place for place in self._places if place.item is not item]
        return len(self._places) < before

    def expired(self, now_s: float) -> list[Place[T]]:
        """Remove and return all work whose deadline has passed."""
        late = [place for place in self._places if place.deadline_s < now_s]
        if late:
            self._places = [place for place in self._places if place.deadline_s >= now_s]
        return late

    def first(self, now_s: float) -> Place[T] | None:
        """Return the work to admit next; it stays until ``take``."""
        aged_before_s = now_s - self._ageing_s
        may_age = self._admitted_aged_s <= aged_before_s

        def order(place: Place[T]) -> tuple[bool, int, float, float]:
            fresh = not (may_age and place.arrived_s <= aged_before_s)
            return fresh, place.priority, place.deadline_s, place.arrived_s

        return min(self._places, key=order, default=None)

    def take(self, place: Place[T], now_s: float) -> None:
        """Remove work that is being admitted."""
        if place.arrived_s <= now_s - self._ageing_s:
            self._admitted_aged_s = now_s
        self._places.remove(place)

    def clear(self) -> list[Place[T]]:
        """Remove and return everything."""
        places, self._places = self._places, []
        return places


@dataclass(eq=False, slots=True)
class Job:
    """One generation in the loop.

    Attributes:
        generation: what to write.
        ticket: how urgent it is.
        arrived_s: monotonic instant at which it was submitted.
        admitted_s: when it got a slot; None while it waits.
        answering: whether a piece of it was delivered.
    """

    generation: Generation
    ticket: Ticket
    arrived_s: float
    admitted_s: float | None = None
    answering: bool = False


Event: TypeAlias = tuple[Job, "Piece | TurnoutError"]


@dataclass(slots=True)
class _Shared:
    """State that both threads use, under one lock."""

    lock: threading.Condition = field(default_factory=threading.Condition)
    waiting: WaitingList[Job] = field(default_factory=WaitingList)
    cancelled: list[Job] = field(default_factory=list)
    broken: LoadFailed | None = None


class Scheduler:
    """Advances all generations of one runner.

    ``submit``, ``cancel``, ``load_now`` and ``wait`` may be called from any thread; ``turn`` from
    one only.

    Args:
        name: the model's name, for errors.
        runner: a loaded runner.
        deliver: receives the events of each turn; called from the thread that calls ``turn``.
        clock: monotonic seconds.
        max_queue: the most generations that wait.
        reserved: slots that only priority 0 may take; by default the last one, if there are more.
    """

    def __init__(
        self,
        name: str,
        runner: TextRunner,
        deliver: Callable[[list[Event]], None],
        *,
        clock: Callable[[], float],
        max_queue: int = 64,
        reserved: int | None = None,
    ) -> None:
        self._name = name
        self._runner = runner
        self._deliver = deliver
        self._clock = clock
        self._max_queue = max_queue
        default = 1 if runner.max_sequences > 1 else 0
        self._reserved = default if reserved is None else reserved
        self._shared = _Shared()
        self._running: dict[int, Job] = {}
        self._failures = 0
        self._mean_s = _FIRST_GUESS_S

    def submit(self, generation: Generation, ticket: Ticket) -> Job:
        """Queue a generation.

        Raises:
            QueueFull: with an estimate of when there is room.
            LoadFailed: the runner failed too often and is out of service.
        """
        shared = self._shared
        with shared.lock:
            if shared.broken is not None:
                raise shared.broken
            depth = len(shared.waiting)
            if depth >= self._max_queue:
                raise QueueFull(self._name, depth, self._slot_free_s(1))
            job = Job(generation, ticket, self._clock())
            shared.waiting.push(Place(job, ticket.priority, ticket.deadline_s, job.arrived_s))
            shared.lock.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Drop a generation; its slot is free before the next step."""
        with self._shared.lock:
            if not self._shared.waiting.drop(job):
                self._shared.cancelled.append(job)
                self._shared.lock.notify()

    def load_now(self) -> BackendLoad:
        """The present load."""
        waiting = len(self._shared.waiting)
        return BackendLoad(queued=waiting, running=len(self._running), queued_rows=waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._running or len(self._shared.waiting) or self._shared.cancelled)

    def wait(self, stopping: Callable[[], bool]) -> bool:
        """Block until there is work; False when there is none and ``stopping`` says to end."""
        with self._shared.lock:
            self._shared.lock.wait_for(lambda: not self.idle or stopping())
            return not self.idle

    def wake(self) -> None:
        """Let ``wait`` check ``stopping`` again."""
        with self._shared.lock:
            self._shared.lock.notify_all()

    @property
    def broken(self) -> LoadFailed | None:
        """Why the loop accepts nothing more, for good; running generations may still finish."""
        return self._shared.broken

    def turn(self) -> None:
        """Schedule, step, deliver: once."""
        events: list[Event] = []
        try:
            self._drop_cancelled()
            self._expire(events)
            self._admit(events)
            if self._running:
                self._step(events)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            self._abandon(events, self._failure(error))
        if events:
            self._deliver(events)

    def _drop_cancelled(self) -> None:
        with self._shared.lock:
            gone, self._shared.cancelled = self._shared.cancelled, []
        for job in gone:
            for number, running in list(self._running.items()):
                if running is job:
                    self._runner.remove(number)
                    del self._running[number]

    def _expire(self, events: list[Event]) -> None:
        now_s = self._clock()
        with self._shared.lock:
            late = self._shared.waiting.expired(now_s)
        for place in late:
            waited_s = now_s - place.arrived_s
            message = (
                f"the deadline for the first token passed after {waited_s:.3g} s in the queue of "
                f"model {self._name!r}"
            )
            retry_after_s = self._slot_free_s(len(self._shared.waiting) + 1)
            error = DeadlineUnreachable(message, retry_after_s=retry_after_s)
            events.append((place.item, error))

    def _admit(self, events: list[Event]) -> None:
        now_s = self._clock()
        with self._shared.lock:
            place = self._shared.waiting.first(now_s)
            if place is None or not self._may_join(place):
                return
            self._shared.waiting.take(place, now_s)
        job = place.item
        try:
            number = self._runner.add(job.generation)
        except InvalidRequest as error:
            events.append((job, error))
            return
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            events.append((job, self._failure(error)))
            self._failed(events)
            return
        job.admitted_s = now_s
        self._running[number] = job

    def _may_join(self, place: Place[Job]) -> bool:
        if not self._running:
            return True
        free = self._runner.max_sequences - len(self._running)
        if free <= (0 if place.priority <= URGENT else self._reserved):
            return False
        # A prompt being read is only overtaken by a more urgent one.
        reading = [job.ticket.priority for job in self._running.values() if not job.answering]
        return not reading or place.priority < min(reading)

    def _step(self, events: list[Event]) -> None:
        try:
            steps = self._runner.step()
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            failure = self._failure(error)
            for number, job in self._running.items():
                self._runner.remove(number)
                events.append((job, failure))
            self._running.clear()
            self._failed(events)
            return
        self._failures = 0
        for step in steps:
            job = self._running.get(step.sequence)
            if job is None:
                continue
            job.answering = True
            events.append((job, step.piece))
            if isinstance(step.piece, InvalidRequest):
                del self._running[step.sequence]
            elif step.piece.finish_reason is not None:
                del self._running[step.sequence]
                self._finished(job)

    def _finished(self, job: Job) -> None:
        """Update the moving average of the seconds a generation holds its slot."""
        if job.admitted_s is not None:
            self._mean_s += 0.2 * (self._clock() - job.admitted_s - self._mean_s)

    def _slot_free_s(self, slots: int) -> float:
        """Expected seconds until ``slots`` slots have come free."""
        return slots * self._mean_s / self._runner.max_sequences

    def _failure(self, error: Exception) -> TurnoutError:
        if isinstance(error, TurnoutError):
            return error
        return RunFailed(self._name, f"{type(error).__name__}: {error}")

    def _abandon(self, events: list[Event], failure: TurnoutError) -> None:
        """Fail every generation: the runner cannot even remove a sequence."""
        events.extend((job, failure) for job in self._running.values())
        self._running.clear()
        self._give_up(events, f"is out of service; {failure}")

    def _failed(self, events: list[Event]) -> None:
        """Count a failure; ``_BROKEN_AFTER`` in a row take the model out of service."""
        self._failures += 1
        if self._failures < _BROKEN_AFTER:
            return
        reason = f"failed {self._failures} times in a row and is out of service; last: "
        self._give_up(events, f"{reason}{events[-1][1]}")

    def _give_up(self, events: list[Event], reason: str) -> None:
        broken = LoadFailed(self._name, reason)
        with self._shared.lock:
            self._shared.broken = broken
            left = self._shared.waiting.clear()
        events.extend((place.item, broken) for place in left)
