"""What the gateway and every model service share: one plane behind BentoML and behind ASGI.

A ``TurnoutService`` answers the hot paths itself and leaves the rest to BentoML; the object
BentoML makes of it (an ``ServiceInstance``) owns the plane and its life.
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

# What serves is imported where it is made: ``bentoml serve`` imports this module in a process that
# only starts the others, and each of them waits for that.

logger = logging.getLogger("turnout")

_TICK_S = 0.5
_GIVE_BACK_S = 5.0
_COLLECT = (20_000, 20, 50)


class TurnoutService(Service[Any]):
    """A BentoML service whose hot paths are answered before BentoML's middleware."""

    plane: DataPlane | None = None
    bulk: BatchService | None = None

    def __call__(self) -> Any:
        """Make the instance and remember its plane."""
        instance = super().__call__()
        self.plane = instance.plane
        self.bulk = instance.bulk
        return instance

    def to_asgi(self, is_main: bool = True) -> Any:
        """Our front door, with BentoML's application behind it."""
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
    """The life of one plane inside a BentoML service.

    Attributes:
        catalog: what it serves; set by the subclass.
        serves_bulk: whether batches are taken and run here; only a gateway does.
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
            # A gateway's models hear each request again; the decision is the gateway's.
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
        """Begin to load the models; returns at once, so that the port answers."""
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
        """Give batches back to others, finish what is accepted, then stop."""
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
        # What start-up made stays: a full collection would walk it for tens of milliseconds. What
        # requests make is freed by reference counts; cycles are rare, so looking for them is too.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        while True:
            await asyncio.sleep(_TICK_S)
            await self._beat()

    async def _beat(self) -> None:
        """Once; what fails is done again the next time."""
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
            logger.exception("what is done every %g s failed; trying again", _TICK_S)


def _book() -> AliasStore:
    """The aliases' book; imported here, as only a catalog with versions pays for SQLAlchemy."""
    from services.rollouts.database_store import DatabaseAliasStore

    return DatabaseAliasStore(from_environment().database_url)


def listening(environment: Mapping[str, str] | None = None) -> Any:
    """Where a service listens: loopback port 3000 unless ``PORT`` or ``TURNOUT_HOST`` say else."""
    env = os.environ if environment is None else environment
    return {"host": env.get("TURNOUT_HOST", "127.0.0.1"), "port": int(env.get("PORT", "3000"))}
