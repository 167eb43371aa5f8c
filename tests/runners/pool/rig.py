"""A pool over stand-in models in a machine whose memory is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from runners.backends.on_demand import OnDemandTensors
from runners.pool import Footprint, Pool, Slot
from runners.pool.eviction import Order, by_worth
from runners.pool.slot import Window
from runners.protocol import ActiveEngine, BackendLoad, TensorResult, Ticket
from turnout.errors import LoadFailed
from turnout.types import Tensors

BASE = 100
X: Tensors = {"x": np.zeros(1, np.float32)}
NEVER = float("inf")


@dataclass
class Machine:
    """What is loaded, in bytes on top of ``BASE``, and the most there ever was."""

    loaded: dict[str, int] = field(default_factory=dict)
    peak: int = BASE
    now_s: float = 0.0
    minute: int = 0

    def resident_bytes(self) -> int:
        return BASE + sum(self.loaded.values())

    def trim(self) -> None:
        pass

    def clock(self) -> float:
        return self.now_s


@dataclass
class Model:
    """A backend that takes ``size`` of the machine while it is loaded.

    Attributes:
        gate: loads wait for it, when there is one.
        busy: runs wait for it, when there is one.
        error: what the next loads end with.
        leaks: what each run keeps until the model is closed.
    """

    name: str
    size: int
    machine: Machine
    gate: asyncio.Event | None = None
    busy: asyncio.Event | None = None
    error: Exception | None = None
    leaks: int = 0
    starts: int = 0
    running: int = 0
    active: ActiveEngine | None = None

    def load_now(self) -> BackendLoad:
        return BackendLoad(running=self.running)

    async def start(self) -> None:
        self.starts += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.machine.loaded[self.name] = self.size
        self.machine.peak = max(self.machine.peak, self.machine.resident_bytes())
        self.active = ActiveEngine("fake", "cpu", "cpu")

    async def stop(self) -> None:
        assert not self.running, "evicted with work in flight"
        self.machine.loaded.pop(self.name, None)
        self.active = None

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        if self.name not in self.machine.loaded:
            raise LoadFailed(self.name, "is not loaded")
        self.running += 1
        try:
            if self.busy is not None:
                await self.busy.wait()
            await asyncio.sleep(0)
            self.machine.loaded[self.name] += self.leaks
            return TensorResult(tensors, 0.0, 0.0, 1)
        finally:
            self.running -= 1


@dataclass
class Rig:
    """A pool and its models."""

    pool: Pool
    machine: Machine
    models: dict[str, Model]
    backends: dict[str, OnDemandTensors]

    async def ask(self, name: str, priority: int = 0, deadline_s: float = NEVER) -> TensorResult:
        return await self.backends[name].infer(X, Ticket("t", priority, deadline_s))

    def resident(self) -> set[str]:
        return {name for name, slot in self.pool.slots.items() if slot.inner is not None}


def make_rig(
    sizes: Mapping[str, int],
    budget: int | None,
    *,
    pinned: tuple[str, ...] = (),
    estimates: Mapping[str, int] | None = None,
    windows: Mapping[str, str] | None = None,
    order: Order = by_worth,
    patience: float = 0.0,
    max_load_s: float = NEVER,
) -> Rig:
    """A pool of models of these sizes; ``budget`` is on top of what the process itself takes."""
    machine = Machine()
    pool = Pool(
        {} if budget is None else {"cpu": BASE + budget},
        urgency={0: 10.0, 1: 0.3, 2: 0.002},
        order=order,
        patience=patience,
        memory=machine,
        clock=machine.clock,
        minute=lambda: machine.minute,
    )
    models = {name: Model(name, size, machine) for name, size in sizes.items()}
    backends: dict[str, OnDemandTensors] = {}
    for name, model in models.items():
        believed = (estimates or sizes).get(name, model.size)
        slot = Slot(name, lambda model=model: model, Footprint(believed), pinned=name in pinned)
        slot.max_load_s = max_load_s
        if windows and name in windows:
            slot.windows = (Window.read(windows[name]),)
        pool.add(slot)
        backends[name] = OnDemandTensors(pool, slot)
    return Rig(pool, machine, models, backends)
