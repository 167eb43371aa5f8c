"""The place of one model in the pool: its backend while it is loaded, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from runners.pool.demand import Demand
from runners.pool.eviction import Resident
from runners.pool.warm_windows import Window
from runners.protocol import TensorBackend, TextBackend

CPU = "cpu"
_BYTES_A_SECOND = 400e6
_LOAD_LEAST_S = 0.02
_RELOAD_LEAST_S = 1e-3
_LEAST_BYTES = 128 * 1024


class State(StrEnum):
    """Where a model is between the store and memory."""

    COLD = "cold"
    WAITING = "waiting"
    LOADING = "loading"
    RESIDENT = "resident"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model takes.

    Attributes:
        resident_bytes: while it is loaded.
        extra_bytes: on top of that while it loads (the file that is being read, say).
    """

    resident_bytes: int
    extra_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """The most it takes, which is while it loads."""
        return self.resident_bytes + self.extra_bytes


@dataclass(slots=True, eq=False)
class Slot:
    """One model of the pool.

    Attributes:
        name: of the model.
        make: builds a backend for one residency, not yet loaded.
        footprint: what it takes: an estimate until ``measured``.
        device: which budget it counts against.
        kind: its engine; the first load of one also brings its libraries into memory.
        max_load_s: after which a load is given up.
        pinned: loaded at start and never evicted.
        windows: parts of the day in which it is treated so.
        warm: whether such a window is open now.
        inner: its backend while it is loaded.
        in_flight: requests in ``inner`` now.
        waiting: the load somebody waits for.
        load_s: seconds its last load took; None before the first.
        why_not: why it cannot be loaded; kept until a load succeeds.
        retry_s: monotonic instant before which a failed load is not tried again.
        parked: unloaded by an operator: not loaded again before somebody says so.
        trouble: what was done about it last, for people.
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
    waiting: asyncio.Future[None] | None = None
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
        """Whether it must stay: pinned, or with work in flight."""
        return self.pinned or self.warm or self.in_flight > 0

    def took(self, grown_bytes: int) -> None:
        """Correct what is believed of it by what a load took; of several loads the most counts.

        A load into memory that was free but not given back shows as nothing: it is believed to
        take little then, and what it does take is seen in what the process takes.
        """
        known = self.footprint.resident_bytes
        taken = max(grown_bytes, known if self.measured else 0)
        taken = taken if taken > 0 else min(known, _LEAST_BYTES)
        self.footprint = Footprint(taken, self.footprint.extra_bytes)
        self.measured = True

    def broken(self, now_s: float) -> str | None:
        """Why no request may go to it now; None when one may."""
        if self.parked:
            return "was unloaded by an operator; load it to use it again"
        return self.why_not if now_s < self.retry_s else None

    @property
    def reload_s(self) -> float:
        """Seconds the next load is expected to take."""
        if self.load_s is not None:
            return max(self.load_s, _RELOAD_LEAST_S)
        return _LOAD_LEAST_S + self.footprint.resident_bytes / _BYTES_A_SECOND

    def load_in_s(self, now_s: float) -> float:
        """Expected seconds until it is loaded, if it were asked for now; 0 when it is."""
        if self.inner is not None:
            return 0.0
        if self.state is State.LOADING:
            return max(self.reload_s - (now_s - self.loading_since_s), 0.1 * self.reload_s)
        return self.reload_s

    def as_resident(self, worth: float) -> Resident:
        """As the choice of victims sees it."""
        size = self.footprint.resident_bytes
        return Resident(self.name, size, worth, self.loaded_s, self.used_s, self.held)
