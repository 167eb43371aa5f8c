"""Rows run by a data plane of this process, as a gateway would run them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from services.batch_api.concurrency import ConcurrencyWindow
from services.batch_api.job import Job
from services.batch_api.leases import Portion, Results
from services.batch_api.targets import PlaneEndpoints, model_named, task_called
from services.dataplane.factory import compose
from turnout.catalog import Catalog, model_name
from turnout.errors import ConfigError
from turnout.settings import from_environment

_GROW_S = 0.05

Keep = Callable[[Portion, Results], Awaitable[None]]


def narrow(catalog: Catalog, endpoint: str) -> Catalog:
    """The catalog without the models that rows of this endpoint cannot reach.

    Raises:
        InvalidRequest: no batch may call this endpoint, or nothing here has its name.
    """
    task, name = task_called(catalog, endpoint), model_named(endpoint)
    route = catalog.routes.get(name or "")
    if name is None:
        keep = {key for key, model in catalog.models.items() if model.task is task}
    else:
        keep = set(route.candidates if route else (catalog.model_called(name) or name,))
    models = {key: model for key, model in catalog.models.items() if key in keep}
    routes = {key: each for key, each in catalog.routes.items() if keep.issuperset(each.candidates)}
    # A batch is answered by production throughout: no version is on trial here.
    versioned = {
        key: known.model_copy(update={"versions": (known.production,), "canary": None})
        for key, known in catalog.versioned.items()
        if model_name(key, known.production) in keep
    }
    return catalog.model_copy(update={"models": models, "routes": routes, "versioned": versioned})


class Rows:
    """Runs rows of one endpoint; its models are loaded once.

    Args:
        catalog: where the endpoint's models are.
        endpoint: the URL of the rows.
    """

    def __init__(self, catalog: Catalog, endpoint: str) -> None:
        self._endpoint = endpoint
        self._plane = compose(narrow(catalog, endpoint), from_environment({}))
        self._endpoints = PlaneEndpoints(self._plane)

    async def start(self) -> None:
        """Load the models.

        Raises:
            ConfigError: none could be loaded.
        """
        self._plane.fleet.start()
        await self._plane.fleet.settled()
        fleet = self._plane.fleet
        if not any(fleet.serves(name) for name in fleet.members):
            reasons = "; ".join(f"{name}: {fleet.state(name).broken}" for name in fleet.members)
            raise ConfigError(f"no model for {self._endpoint} could be loaded: {reasons}")

    async def stop(self) -> None:
        """Free the models."""
        await self._plane.fleet.stop()
        self._plane.log.close()

    async def run(self, batch_id: str, portions: Iterator[Portion], keep: Keep) -> None:
        """Run portions, several at once; ``keep`` stores the results of each."""
        window = ConcurrencyWindow(self._endpoints.most_rows(self._endpoint), time.monotonic)
        growing = asyncio.ensure_future(_grow(window))
        try:
            queue = _IteratedPortions(portions, keep)
            await Job(batch_id, self._endpoint, queue, self._endpoints, window).run()
            if queue.error is not None:
                raise queue.error
        finally:
            growing.cancel()


class _IteratedPortions:
    """Portions in order, for one job alone."""

    def __init__(self, portions: Iterator[Portion], keep: Keep) -> None:
        self._portions = portions
        self._keep = keep
        self.error: BaseException | None = None

    async def take(self, batch_id: str) -> Portion | None:
        return None if self.error is not None else next(self._portions, None)

    async def complete(self, portion: Portion, results: Results) -> None:
        await self._keep(portion, results)

    def running(self, portion: Portion, task: asyncio.Task[None]) -> None:
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = self.error or error


async def _grow(window: ConcurrencyWindow) -> None:
    """Grow the window: no real-time request shares this event loop."""
    while True:
        await asyncio.sleep(_GROW_S)
        window.lagged(0.0)
