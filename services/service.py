"""The BentoML service of the gateway and of every model: one data plane behind BentoML and ASGI.

A ``TurnoutService`` answers the hot paths itself and leaves the rest to BentoML; its instance (a
``ServiceInstance``) owns the plane, starts it and stops it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bentoml
from _bentoml_sdk import Service

from services.metrics.metrics_folder import count_apart
from services.process.shutdown import end_with_parent, on_sigterm
from services.process.startup import beside_a_gateway, resume_collection
from turnout.settings import from_environment

if TYPE_CHECKING:
    from services.batch_api.service import BatchService
    from services.dataplane.data_plane import DataPlane
    from services.rollouts.store import AliasStore
    from turnout.catalog import Catalog

# The serving modules are imported where they are used: ``bentoml serve`` imports this module in a
# process that only starts the others, and each of them waits for that.

logger = logging.getLogger("turnout")

_TICK_S = 0.5
_GIVE_BACK_S = 5.0
_COLLECT = (20_000, 20, 50)


class TurnoutService(Service[Any]):
    """A BentoML service that answers its hot paths before BentoML's middleware."""

    plane: DataPlane | None = None
    bulk: BatchService | None = None

    def __call__(self) -> Any:
        """Create the instance and keep its plane."""
        instance = super().__call__()
        self.plane = instance.plane
        self.bulk = instance.bulk
        return instance

    def to_asgi(self, is_main: bool = True) -> Any:
        """Return the gateway's ASGI application, with BentoML's application behind it."""
        from services.bento.form_validation import check_forms
        from services.bento.log_filter import drop_caller_errors
        from services.server.access_log import AccessLog
        from services.server.app import GatewayApp

        drop_caller_errors()
        check_forms(self)
        count_apart()
        where = from_environment().access_log
        log = AccessLog(where) if where else None
        return GatewayApp(lambda: self.plane, super().to_asgi(is_main), log, bulk=lambda: self.bulk)


class ServiceInstance:
    """Owns one data plane inside a BentoML service, and starts and stops it.

    Attributes:
        catalog: the catalog it serves; set by the subclass.
        serves_bulk: whether it accepts and runs batches; only a gateway does.
    """

    catalog: Catalog
    serves_bulk = False

    def __init__(self) -> None:
        from services.dataplane.data_plane import DataPlane
        from services.dataplane.factory import compose
        from services.dataplane.single_model import SingleModelPlane
        from services.fleet.profile_drift import ProfileWatch
        from services.fleet.profiles import Profiles
        from services.metrics.metrics import Metrics

        settings = from_environment()
        if not self.serves_bulk:
            # The gateway decides and logs each request that reaches its models.
            settings = replace(settings, decision_log=None, feature_routers={})
        kind = SingleModelPlane if beside_a_gateway() else DataPlane
        self.plane = compose(self.catalog, settings, Metrics(), kind=kind)
        self.bulk: BatchService | None = None
        if self.serves_bulk:
            from services.batch_api.service import BatchService

            self.bulk = BatchService(self.plane, settings.database_url)
            if self.catalog.gateway.workers > 1:
                from services.dataplane.admin import AdminOperations
                from services.process.peers import Peers, socket_folder

                answers = {**self.plane.answers_to_peers(), **AdminOperations(self.plane).answers()}
                self.plane.peers = Peers(socket_folder("gateway"), answers)
        self.watch = ProfileWatch(
            self.plane.fleet, Profiles.read(), self.plane.metrics, self.plane.clock
        )

    @bentoml.on_startup
    async def open(self) -> None:
        """Begin to load the models; return at once, so that the port answers."""
        end_with_parent()
        self.plane.fleet.start()
        if self.plane.peers is not None:
            await self.plane.peers.start()
        if self.serves_bulk:
            await self.plane.rollouts.open(_book)
        if self.bulk is not None:
            await self.bulk.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        on_sigterm(self._drain)
        resume_collection()

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Give batches back to other gateways, finish the accepted requests, then stop."""
        if self.bulk is not None:
            try:
                await asyncio.wait_for(self.bulk.stop(), _GIVE_BACK_S)
            except TimeoutError:
                logger.warning("batches could not be given back in time; others take them later")
        self.plane.draining = True
        self._ticking.cancel()
        if self.serves_bulk:
            await self.plane.rollouts.close()
        await self.plane.fleet.stop()
        if self.plane.peers is not None:
            await self.plane.peers.stop()
        await asyncio.to_thread(self.plane.close)

    def _drain(self) -> None:
        self.plane.draining = True

    async def _tick(self) -> None:
        """Keep the metrics of this worker current for scrapes that another worker answers."""
        await self.plane.fleet.settled()
        # Objects of the start-up stay: a full collection would walk them for tens of milliseconds.
        # Those of requests are freed by reference counts; cycles are rare, so collections can be.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        while True:
            await asyncio.sleep(_TICK_S)
            await self._update_once()

    async def _update_once(self) -> None:
        """Update metrics, profiles and routers once; failures are retried the next time."""
        try:
            self.plane.measure()
            if due := self.watch.due():
                await asyncio.to_thread(self.watch.renew, due)
            routers = self.plane.routers
            if routers is not None and routers.changed():
                await asyncio.to_thread(routers.reload)
            learned = self.plane.feature_routers
            if learned is not None and learned.changed():
                await asyncio.to_thread(learned.reload)
        except Exception:
            logger.exception("the periodic update failed; it is retried in %g s", _TICK_S)


def _book() -> AliasStore:
    """Open the alias store; imported here, as only a catalog with versions needs SQLAlchemy."""
    from services.rollouts.database_store import DatabaseAliasStore

    return DatabaseAliasStore(from_environment().database_url)


def listening(environment: Mapping[str, str] | None = None) -> Any:
    """Return host and port of a service: ``TURNOUT_HOST`` and ``PORT``, or loopback port 3000."""
    env = os.environ if environment is None else environment
    return {"host": env.get("TURNOUT_HOST", "127.0.0.1"), "port": int(env.get("PORT", "3000"))}
