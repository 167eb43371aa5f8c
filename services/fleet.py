"""The models of one catalog as backends: made by placement, started by urgency, watched.

A model that cannot load is out of service with its reason; the others never notice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routing.latency import Busy, ModelLatency
from routing.router import ModelState
from runners.breaker import Breaker
from runners.protocol import Active, TensorBackend, TextBackend
from turnout.catalog import Catalog, Model
from turnout.errors import RunnerError, TurnoutError
from turnout.types import Task

logger = logging.getLogger("turnout.fleet")

_LOAD_GUESS_S = 5.0


@dataclass(slots=True)
class Member:
    """One model of the fleet.

    Attributes:
        model: its catalog entry.
        backend: what runs it.
        latency: what is learned of its speed.
        breaker: keeps requests away while it fails.
        lanes: runs its engine does at the same time.
        broken: why it could not load; None otherwise.
        ready: set once it has loaded, or failed to.
        prior: where its latency began: ``catalog``, or ``host`` where it was measured.
    """

    name: str
    model: Model
    backend: TensorBackend | TextBackend
    latency: ModelLatency
    lanes: int
    batch_units: float
    breaker: Breaker = field(default_factory=Breaker)
    broken: str | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    started_s: float | None = None
    prior: str = "catalog"


MakeBackend = Callable[[str, Model, ModelLatency], TensorBackend | TextBackend]


class Fleet:
    """Every model of a catalog.

    Args:
        catalog: the catalog.
        make: builds the backend of one model, without loading it.
        clock: monotonic seconds.
        came_up: told of each model that has loaded, and what really runs.
        prior: the latency a model begins with where it was measured on this host.
    """

    def __init__(
        self,
        catalog: Catalog,
        make: MakeBackend,
        *,
        clock: Callable[[], float] = time.monotonic,
        came_up: Callable[[str, Active], None] = lambda name, active: None,
        prior: Callable[[str, Model], ModelLatency | None] = lambda name, model: None,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._came_up = came_up
        self.members: dict[str, Member] = {}
        for name, model in catalog.models.items():
            known = prior(name, model)
            latency = known or latency_of(model)
            backend = make(name, model, latency)
            rows = float(model.batching.max_rows)
            self.members[name] = Member(
                name, model, backend, latency, _lanes(model), rows,
                prior="host" if known else "catalog",
            )  # fmt: skip
        self._starting: asyncio.Task[None] | None = None

    @property
    def latencies(self) -> Mapping[str, ModelLatency]:
        """The latency model of every member, by name."""
        return {name: member.latency for name, member in self.members.items()}

    def start(self) -> None:
        """Begin to load every model, the most urgent first; returns at once."""
        self._starting = asyncio.get_running_loop().create_task(self._start_all())

    async def settled(self) -> None:
        """Wait until every model has loaded or failed to."""
        for member in self.members.values():
            await member.ready.wait()

    async def stop(self) -> None:
        """Finish what is accepted, then free every model."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(
            *(member.backend.stop() for member in self.members.values()), return_exceptions=True
        )

    def urgent_ready(self) -> bool:
        """Whether every model of the most urgent class is warm (or known to be broken)."""
        return all(self.members[name].ready.is_set() for name in self._urgent())

    def state(self, name: str) -> ModelState:
        """What the router must know of a model now."""
        member = self.members[name]
        load = member.backend.load_now()
        if member.ready.is_set():
            broken, load_in_s = member.broken or member.breaker.open_reason(self._clock()), 0.0
        else:
            broken, load_in_s = None, self._load_in_s(member)
        return ModelState(
            Busy(load.queued_rows, load.running, member.lanes, member.batch_units, load_in_s),
            broken,
        )

    def failed(self, name: str, error: TurnoutError) -> None:
        """A run of this model failed."""
        why = error.problem if isinstance(error, RunnerError) else str(error)
        self.members[name].breaker.failed(self._clock(), why)

    def succeeded(self, name: str) -> None:
        """A run of this model went well."""
        self.members[name].breaker.succeeded()

    def _urgent(self) -> list[str]:
        first = min(self._order().values())
        return [name for name, rank in self._order().items() if rank == first]

    def _order(self) -> dict[str, int]:
        """Each model's urgency: the priority of the most urgent route it is a candidate of."""
        ranks = dict.fromkeys(self.members, 99)
        for route in self._catalog.routes.values():
            priority = self._catalog.classes[route.latency_class].priority
            for name in route.candidates:
                ranks[name] = min(ranks[name], priority)
        return ranks

    async def _start_all(self) -> None:
        order = self._order()
        for rank in sorted(set(order.values())):
            await asyncio.gather(
                *(self._start_one(self.members[n]) for n, r in order.items() if r == rank)
            )

    async def _start_one(self, member: Member) -> None:
        member.started_s = self._clock()
        try:
            await member.backend.start()
        except TurnoutError as error:
            member.broken = error.problem if isinstance(error, RunnerError) else str(error)
            logger.error("model %s is out of service: %s", member.name, member.broken)
        except Exception as error:
            member.broken = f"{type(error).__name__}: {error}"
            logger.exception("model %s is out of service", member.name)
        else:
            active = member.backend.active
            if active is not None:
                self._came_up(member.name, active)
                took_s = self._clock() - member.started_s
                note = f" ({active.reason})" if active.reason else ""
                logger.info(
                    "model %s is up after %.2f s on %s%s",
                    member.name, took_s, active.provider, note,
                )  # fmt: skip
        finally:
            member.ready.set()

    def _load_in_s(self, member: Member) -> float:
        if member.started_s is None:
            return _LOAD_GUESS_S
        return max(_LOAD_GUESS_S - (self._clock() - member.started_s), 0.5)


def latency_of(model: Model) -> ModelLatency:
    """A fresh latency model from the catalog's profile."""
    profile = model.profile
    chat = model.task is Task.CHAT
    return ModelLatency(
        profile.base_ms / 1e3,
        profile.per_row_ms / 1e3,
        max(profile.per_token_ms / 1e3, 1e-3) if chat else 0.0,
    )


def _lanes(model: Model) -> int:
    """Runs the engine does at the same time."""
    return getattr(model.runner, "max_sequences", 16 if model.placement == "remote" else 1)
