"""A model's slot in the pool: its backend while loaded, its state and its counts; the roster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from runners.pool.eviction import Demand, Resident
from runners.protocol import ActiveEngine, TensorBackend, TextBackend

CPU = "cpu"
_BYTES_A_SECOND = 400e6
_LOAD_LEAST_S = 0.02
_RELOAD_LEAST_S = 1e-3
_LEAST_BYTES = 128 * 1024


class State(StrEnum):
    """State of a model between store and memory."""

    COLD = "cold"
    WAITING = "waiting"
    LOADING = "loading"
    RESIDENT = "resident"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the day in which a model is kept loaded.

    From ``start`` up to ``end``, in minutes after midnight UTC; may pass midnight.
    """

    start: int
    end: int

    @classmethod
    def read(cls, text: str) -> Window:
        """Read ``HH:MM-HH:MM``."""
        start, end = text.split("-")
        return cls(_minutes(start), _minutes(end))

    def holds(self, minute: int) -> bool:
        """Whether a minute of the day, 0 to 1439, lies in the window."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory a model takes.

    Attributes:
        resident_bytes: while it is loaded.
        extra_bytes: on top of that while it loads (the file that is being read, say).
    """

    resident_bytes: int
    extra_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """The most it takes: while it loads."""
        return self.resident_bytes + self.extra_bytes


@dataclass(slots=True, eq=False)
class Slot:
    """One model of the pool.

    Attributes:
        name: of the model.
        make: builds a backend that is not yet loaded; called for each load.
        footprint: the memory it takes: an estimate until ``measured``.
        device: which budget it counts against.
        kind: its engine; the first load of one also brings its libraries into memory.
        max_load_s: seconds after which a load is given up.
        pinned: loaded at start and never evicted.
        windows: parts of the day in which it is kept loaded too.
        warm: whether such a window is open now.
        inner: its backend while it is loaded.
        in_flight: requests in ``inner`` now.
        load_s: seconds its last load took; None before the first.
        why_not: why it could not be loaded; kept until a load succeeds.
        retry_s: monotonic instant before which a failed load is not tried again.
        parked: unloaded by an operator: not loaded again before ``Pool.load``.
        trouble: the last measure taken about it, for people.
    """

    name: str
    make: Callable[[], TensorBackend | TextBackend]
    footprint: Footprint
    device: str = CPU
    kind: str = ""
    max_load_s: float = float("inf")
    pinned: bool = False
    windows: tuple[Window, ...] = ()
    warm: bool = False
    state: State = State.COLD
    inner: TensorBackend | TextBackend | None = None
    in_flight: int = 0
    demand: Demand = field(default_factory=Demand)
    measured: bool = False
    load_s: float | None = None
    loading_since_s: float = 0.0
    loaded_s: float = 0.0
    used_s: float = 0.0
    why_not: str | None = None
    retry_s: float = 0.0
    failures: int = 0
    parked: bool = False
    trouble: str | None = None
    hits: int = 0
    misses: int = 0
    loads: int = 0
    evictions: int = 0

    @property
    def held(self) -> bool:
        """Whether it must not be evicted: pinned, in a warm window, or with work in flight."""
        return self.pinned or self.warm or self.in_flight > 0

    def observe_growth(self, grown_bytes: int) -> None:
        """Correct the footprint by the growth that a load caused; the largest of several counts.

        A load into memory that was free but not given back shows no growth: the footprint is
        small then, and what the model does take shows in the resident memory of the process.
        """
        expected = self.footprint.resident_bytes
        resident = max(grown_bytes, expected if self.measured else 0)
        resident = resident if resident > 0 else min(expected, _LEAST_BYTES)
        self.footprint = Footprint(resident, self.footprint.extra_bytes)
        self.measured = True

    def broken(self, now_s: float) -> str | None:
        """Return why no request may go to it now; None when one may."""
        if self.parked:
            return "was unloaded by an operator; load it to use it again"
        return self.why_not if now_s < self.retry_s else None

    @property
    def reload_s(self) -> float:
        """Expected seconds of the next load."""
        if self.load_s is not None:
            return max(self.load_s, _RELOAD_LEAST_S)
        return _LOAD_LEAST_S + self.footprint.resident_bytes / _BYTES_A_SECOND

    def load_in_s(self, now_s: float) -> float:
        """Expected seconds until it is loaded, if it were requested now; 0 when it is loaded."""
        if self.inner is not None:
            return 0.0
        if self.state is State.LOADING:
            return max(self.reload_s - (now_s - self.loading_since_s), 0.1 * self.reload_s)
        return self.reload_s

    def as_resident(self, worth: float) -> Resident:
        """Return its entry in the choice of victims."""
        size = self.footprint.resident_bytes
        return Resident(self.name, size, worth, self.loaded_s, self.used_s, self.held)


@dataclass(slots=True)
class Roster:
    """The slots of a pool, and the listeners of their loads; iterating gives all slots.

    Attributes:
        came_up: called with each model that was loaded, and what really runs.
        went: called with each model that is no longer loaded.
        slots: by name, those that may be requested.
        retiring: those that were removed or replaced, and count until they are closed.
    """

    came_up: Callable[[str, ActiveEngine], None]
    went: Callable[[str, ActiveEngine], None]
    slots: dict[str, Slot] = field(default_factory=dict)
    retiring: set[Slot] = field(default_factory=set)

    def __iter__(self) -> Iterator[Slot]:
        return iter((*self.slots.values(), *self.retiring))

    def add(self, slot: Slot) -> None:
        """Add a slot; an earlier one of its name is retiring from then on."""
        old = self.slots.get(slot.name)
        if old is not None and old is not slot:
            self.retiring.add(old)
        self.slots[slot.name] = slot

    def remove(self, slot: Slot) -> None:
        """Retire a slot."""
        if self.slots.get(slot.name) is slot:
            del self.slots[slot.name]
        self.retiring.add(slot)

    def holds(self, slot: Slot) -> bool:
        """Whether a slot still belongs to the pool."""
        return self.slots.get(slot.name) is slot or slot in self.retiring

    def of(self, device: str, *states: State) -> Iterator[Slot]:
        """Iterate over the slots of a device in one of these states."""
        return (slot for slot in self if slot.device == device and slot.state in states)


def any_holds(windows: Sequence[Window], minute: int) -> bool:
    """Whether a minute of the day lies in one of the windows."""
    return any(window.holds(minute) for window in windows)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)
