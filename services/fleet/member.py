"""One model of a fleet: its backend and its state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from routing.latency import ModelLatency
from runners.health.circuit_breaker import Breaker
from runners.health.slowdown import Pace
from runners.pool import Slot
from runners.protocol import TensorBackend, TextBackend
from turnout.catalog import Model
from turnout.types import Task


@dataclass(slots=True)
class Member:
    """One model of the fleet.

    Attributes:
        model: its catalog entry.
        backend: runs it.
        latency: its learned latency model.
        breaker: keeps requests away while it fails.
        pace: whether it has become slow.
        lanes: runs its engine does at the same time.
        prior: source of its initial latency: ``catalog``, or ``host`` where it was measured.
        slot: its place in the pool; None when it runs elsewhere.
        broken: why it could not be reached the last time; a pooled model's slot holds its reason.
        ready: set once a request need not wait for it here (the pool lets requests wait itself).
        tried: whether its first load is over, or was postponed for lack of memory.
        promised: number of requests under way that may still use it.
        measured_apart: whether it runs beside this process, in one that measures its own load.
    """

    name: str
    model: Model
    backend: TensorBackend | TextBackend
    latency: ModelLatency
    lanes: int
    batch_units: float
    slot: Slot | None = None
    breaker: Breaker = field(default_factory=Breaker)
    pace: Pace = field(default_factory=Pace)
    broken: str | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    started_s: float | None = None
    prior: str = "catalog"
    tried: bool = False
    promised: int = 0
    measured_apart: bool = False

    @property
    def at_work(self) -> bool:
        """Whether requests on it, accepted or still to come, are under way."""
        if self.promised:
            return True
        if self.slot is not None:
            return bool(self.slot.in_flight)
        return bool(self.backend.load_now().running)


def latency_of(model: Model) -> ModelLatency:
    """Return a fresh latency model from the catalog's profile."""
    profile = model.profile
    chat = model.task is Task.CHAT
    return ModelLatency(
        profile.base_ms / 1e3,
        profile.per_row_ms / 1e3,
        max(profile.per_token_ms / 1e3, 1e-3) if chat else 0.0,
    )


def lanes_of(model: Model) -> int:
    """Return the number of runs that the engine does at the same time."""
    return getattr(model.runner, "max_sequences", 16 if model.placement == "remote" else 1)
