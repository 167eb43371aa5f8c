"""The models of one catalog: in the pool or elsewhere, started by urgency.

A model that cannot load is out of service with its reason; the others are not affected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from routing.decision.router import ModelState
from routing.latency import Busy, ModelLatency
from runners.backends.on_demand import OnDemandTensors, OnDemandText
from runners.health.slowdown import Pace, Paced
from runners.pool import Footprint, Pool, Slot
from runners.pool.slot import Window
from runners.protocol import ActiveEngine, RunTimes, TensorBackend, TextBackend
from services.fleet.member import Member, lanes_of, latency_of
from turnout.catalog import Catalog, Model
from turnout.errors import LoadFailed, RunnerError, TurnoutError
from turnout.types import Task

logger = logging.getLogger("turnout.fleet")

_LOAD_GUESS_S = 5.0
_FORGET_S = 1.0
_AGAIN_S, _MOST_AGAIN_S = 5.0, 300.0
_LOOK_S = 0.1


MakeBackend = Callable[[str, Model, RunTimes], TensorBackend | TextBackend]
Weigh = Callable[[str, Model], Footprint]


def by_catalog(name: str, model: Model) -> Footprint:
    """Return the memory that the catalog states for a model."""
    return Footprint(model.memory)


class Fleet:
    """Every model of a catalog.

    Args:
        catalog: the catalog.
        make: builds the backend of one model, without loading it; for a pooled model once for
            each time it is loaded.
        pool: holds the inline models; by default one without a budget.
        weigh: estimates a model's memory until it is measured.
        clock: monotonic seconds.
        sleep: waits before a model that could not be reached is tried again.
        came_up: called for each remote model that was reached, with the engine that runs.
        prior: returns a model's initial latency where it was measured on this host.
    """

    def __init__(
        self,
        catalog: Catalog,
        make: MakeBackend,
        *,
        pool: Pool | None = None,
        weigh: Weigh = by_catalog,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        came_up: Callable[[str, ActiveEngine], None] = lambda name, active: None,
        prior: Callable[[str, Model], ModelLatency | None] = lambda name, model: None,
    ) -> None:
        self._catalog = catalog
        self._make = make
        self._weigh = weigh
        self._prior = prior
        self._clock = clock
        self._sleep = sleep
        self._came_up = came_up
        self.pool = pool or Pool(clock=clock)
        self.members: dict[str, Member] = {}
        for name, model in catalog.models.items():
            self.members[name] = self._member(name, model)
        self._starting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _member(self, name: str, model: Model) -> Member:
        measured = self._prior(name, model)
        latency = measured or latency_of(model)
        prior = "host" if measured else "catalog"
        lanes, rows = lanes_of(model), float(model.batching.max_rows)
        if model.placement != "inline":
            backend = self._make(name, model, latency)
            return Member(name, model, backend, latency, lanes, rows, prior=prior)
        pace = Pace()
        times = Paced(latency, pace, latency_of(model).run_s)
        slot = Slot(
            name,
            lambda: self._make(name, model, times),
            self._weigh(name, model),
            device=model.device,
            kind=model.runner.engine,
            pinned=model.pinned,
            max_load_s=model.limits.max_load_s,
            windows=tuple(Window.read(text) for text in model.warm_utc),
        )
        self.pool.add(slot)
        chat = model.task is Task.CHAT
        backend = OnDemandText(self.pool, slot) if chat else OnDemandTensors(self.pool, slot)
        member = Member(
            name, model, backend, latency, lanes, rows, slot, pace=pace, prior=prior
        )  # fmt: skip
        member.ready.set()
        return member

    def follow(self, catalog: Catalog) -> None:
        """Use other aliases of the same models: production is loaded before other versions."""
        self._catalog = catalog

    async def make_ready(self, name: str) -> None:
        """Load a model, or wait until it was reached, before requests are sent to it.

        Raises:
            LoadFailed: the model cannot be loaded or reached, or is out of service.
            OverMemoryBudget: the model can never fit.
        """
        member = self.members[name]
        if member.slot is None:
            await member.ready.wait()
        else:
            await self.pool.load(name, priority=0)
        if why := self.broken(member):
            raise LoadFailed(name, why)

    def bring_in(self, name: str) -> None:
        """Undo an operator's unload of a model that an alias now means.

        It is loaded in the background, if there is room; else at its first request.
        """
        member = self.members.get(name)
        if member is None or member.slot is None:
            return
        member.slot.parked = False
        if self._starting is not None and self._starting.done():
            self._hold(self._warm(member.slot))

    async def _warm(self, slot: Slot) -> None:
        """Load a model ahead of requests, unless an operator has unloaded it meanwhile."""
        if not slot.parked:
            await self.pool.fill([slot.name])

    @property
    def latencies(self) -> Mapping[str, ModelLatency]:
        """The latency model of every member, by name."""
        return {name: member.latency for name, member in self.members.items()}

    def adopt(self, catalog: Catalog) -> None:
        """Take over a changed catalog: add, replace and remove models; the others stay.

        Work under way on a replaced or removed model is finished there.
        """
        self._catalog = catalog
        self.pool.retune(catalog.gateway.budgets, urgency_of(catalog))
        arriving: list[str] = []
        for name, model in catalog.models.items():
            old = self.members.get(name)
            if old is not None and old.model == model:
                continue
            if old is not None:
                self._leave(old)
            member = self.members[name] = self._member(name, model)
            if member.slot is None:
                self._hold(self._reach(member))
            else:
                member.tried = True
                arriving.append(name)
        for name in [name for name in self.members if name not in catalog.models]:
            self._leave(self.members[name])
            self._hold(self._forget(name, self.members[name]))
        self._hold(self.pool.fill(arriving))

    def _leave(self, member: Member) -> None:
        """Remove a member once its accepted work is finished."""
        self._hold(
            self._close(member) if member.slot is None else self._retire(member.slot, member)
        )

    async def _retire(self, slot: Slot, member: Member) -> None:
        while member.promised:
            await asyncio.sleep(_LOOK_S)
        await self.pool.retire(slot)

    async def _close(self, member: Member) -> None:
        """Close a model that runs elsewhere once its answers have arrived, or the fleet stops."""
        try:
            while member.at_work:
                await asyncio.sleep(_LOOK_S)
        finally:
            await member.backend.stop()

    async def _forget(self, name: str, member: Member) -> None:
        """Drop a member when none of its answers is left to be accounted for."""
        while member.at_work:
            await asyncio.sleep(_FORGET_S)
        await asyncio.sleep(_FORGET_S)
        if self.members.get(name) is member and name not in self._catalog.models:
            del self.members[name]

    @contextmanager
    def promised(self, names: Collection[str]) -> Iterator[None]:
        """Keep models that parts of a request may still use, should a reload remove them."""
        members = [member for name in names if (member := self.members.get(name)) is not None]
        for member in members:
            member.promised += 1
        try:
            yield
        finally:
            for member in members:
                member.promised -= 1

    def _hold(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def start(self) -> None:
        """Begin to load every model, the most urgent first; return at once."""
        self._starting = asyncio.get_running_loop().create_task(self._start_all())

    async def settled(self) -> None:
        """Wait until every model has been loaded, has failed to, or was left for later."""
        if self._starting is not None:
            await asyncio.wait([self._starting])

    async def stop(self) -> None:
        """Finish the accepted work, then free every model."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(
            *(member.backend.stop() for member in self.members.values()), return_exceptions=True
        )
        await self.pool.stop()

    def urgent_ready(self) -> bool:
        """Return whether every model of the most urgent class is warm, broken, or postponed."""
        return all(self._settled(self.members[name]) for name in self._urgent())

    def serves(self, name: str) -> bool:
        """Return whether a request to this model can be answered, possibly after a load."""
        member = self.members[name]
        return self._settled(member) and self.broken(member) is None

    def state(self, name: str) -> ModelState:
        """Return the present state of a model, for the router."""
        member = self.members[name]
        load = member.backend.load_now()
        slot = member.slot
        if slot is not None:
            load_in_s = 0.0 if slot.inner is not None else self.pool.load_in_s(slot)
            broken = self.broken(member)
        elif member.ready.is_set():
            broken, load_in_s = self.broken(member), 0.0
        else:
            broken, load_in_s = None, self._load_in_s(member)
        return ModelState(
            Busy(load.queued_rows, load.running, member.lanes, member.batch_units, load_in_s),
            broken,
        )

    def broken(self, member: Member) -> str | None:
        """Return why no request may go to a model now; None when requests may."""
        now_s = self._clock()
        slot = member.slot
        why = member.broken if slot is None else slot.broken(now_s)
        return why or member.breaker.open_reason(now_s)

    def _settled(self, member: Member) -> bool:
        return member.tried or (member.slot is not None and member.slot.inner is not None)

    def failed(self, name: str, error: TurnoutError) -> None:
        """Record a failed run of a model; a model that a reload removed has no breaker."""
        why = error.problem if isinstance(error, RunnerError) else str(error)
        if name in self.members:
            self.members[name].breaker.failed(self._clock(), why)

    def succeeded(self, name: str) -> None:
        """Record a successful run of a model."""
        if name in self.members:
            self.members[name].breaker.succeeded()

    def _urgent(self) -> list[str]:
        first = min(self._order().values())
        return [name for name, rank in self._order().items() if rank == first]

    def _order(self) -> dict[str, int]:
        """Return each model's rank by its most urgent route; versions on hold come last."""
        ranks = {name: 2 * self._priority(name) + 1 for name in self.members}
        for route in self._catalog.routes.values():
            for name in route.candidates:
                ranks[name] -= ranks[name] % 2
        return ranks

    def _priority(self, name: str) -> int:
        """Return the priority of the most urgent route that may choose a model, now or later."""
        classes = self._catalog.classes
        routes = self._catalog.routes_of(name)
        return min((classes[route.latency_class].priority for route in routes), default=49)

    async def _start_all(self) -> None:
        """Load pinned models first, then by urgency; under a budget, while there is room."""
        order = self._order()
        names = sorted(order, key=lambda name: (not self.members[name].model.pinned, order[name]))
        elsewhere = [name for name in names if self.members[name].slot is None]
        reaching = asyncio.gather(*(self._reach(self.members[name]) for name in elsewhere))
        if self.pool.budgets:
            for name in names:
                if self.members[name].slot is not None:
                    await self.pool.fill([name])
                    self.members[name].tried = True
        else:
            for rank in sorted(set(order.values())):
                await asyncio.gather(
                    *(
                        self._load(self.members[name])
                        for name in names
                        if order[name] == rank and self.members[name].slot is not None
                    )
                )
        self.pool.start()
        await reaching

    async def _load(self, member: Member) -> None:
        await self.pool.fill([member.name])
        member.tried = True

    async def _reach(self, member: Member) -> None:
        """Try once to reach a model that runs elsewhere; if it is down, retry in the background."""
        await self._try(member)
        if member.broken is not None:
            self._hold(self._reach_again(member))

    async def _reach_again(self, member: Member) -> None:
        """Retry at growing intervals until the model is reached, or has left the fleet."""
        pause_s = _AGAIN_S
        while member.broken is not None:
            await self._sleep(pause_s)
            if self.members.get(member.name) is not member or (
                member.name not in self._catalog.models
            ):
                return
            await self._try(member)
            pause_s = min(2.0 * pause_s, _MOST_AGAIN_S)
        logger.info("model %s is reached, and in service", member.name)

    async def _try(self, member: Member) -> None:
        member.started_s = self._clock()
        before = member.broken
        try:
            await member.backend.start()
        except TurnoutError as error:
            member.broken = error.problem if isinstance(error, RunnerError) else str(error)
            if member.broken != before:
                logger.error("model %s is out of service: %s", member.name, member.broken)
        except Exception as error:
            member.broken = f"{type(error).__name__}: {error}"
            if member.broken != before:
                logger.exception("model %s is out of service", member.name)
        else:
            member.broken = None
            active = member.backend.active
            if active is not None:
                self._came_up(member.name, active)
        finally:
            member.tried = True
            member.ready.set()

    def _load_in_s(self, member: Member) -> float:
        if member.started_s is None:
            return _LOAD_GUESS_S
        return max(_LOAD_GUESS_S - (self._clock() - member.started_s), 0.5)


def urgency_of(catalog: Catalog) -> Mapping[int, float]:
    """Return, by priority, one over the shortest deadline of its classes, in 1/s."""
    urgencies: dict[int, float] = {}
    for entry in catalog.classes.values():
        urgency = 1e3 / entry.deadline_ms
        urgencies[entry.priority] = max(urgencies.get(entry.priority, 0.0), urgency)
    return urgencies
