"""The batch API of one process: opened beside the models, never before the port.

SQLAlchemy takes a third of a second to import, so it is imported in a thread, once the most urgent
models are up; a request that comes earlier waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from turnout.errors import CapacityError, ConfigError, TurnoutError

if TYPE_CHECKING:
    from services.batch_api.targets import Endpoints
    from services.batch_api.worker import Worker
    from services.database.connection import Database
    from services.dataplane.data_plane import DataPlane

logger = logging.getLogger("turnout.bulk")


class BatchService:
    """Files, batches and a worker over one database.

    Args:
        plane: runs the rows.
        database_url: see ``Database``.
    """

    def __init__(self, plane: DataPlane, database_url: str) -> None:
        self._plane = plane
        self._url = database_url
        self._opening: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        self._database: Database | None = None
        self._worker: Worker | None = None
        self._problem: TurnoutError | None = None
        self._endpoints: Endpoints | None = None

    async def start(self) -> None:
        """Begin to open the database; returns at once."""
        self._opening = asyncio.ensure_future(self._open())

    async def stop(self) -> None:
        """Release what the worker holds and close the database."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._worker is not None:
            await self._worker.stop()
        if self._database is not None:
            self._database.close()

    async def database(self) -> Database:
        """The database, once it is open.

        Raises:
            CapacityError: it could not be opened; the log says so too.
        """
        self._urgent.set()
        if self._opening is not None:
            await asyncio.shield(self._opening)
        if self._database is None:
            reason = self._problem or "not running"
            raise CapacityError(f"batches are out of service: {reason}", retry_after_s=60.0)
        return self._database

    def known_endpoints(self) -> Endpoints:
        """The endpoints that a batch may call; open once ``database`` has returned."""
        if self._endpoints is None:
            raise CapacityError("batches are out of service", retry_after_s=60.0)
        return self._endpoints

    def wake(self) -> None:
        """Have the worker look for work now."""
        if self._worker is not None:
            self._worker.wake()

    async def _open(self) -> None:
        warm = asyncio.ensure_future(self._plane.fleet.settled())
        urgent = asyncio.ensure_future(self._urgent.wait())
        await asyncio.wait({warm, urgent}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (warm, urgent):
            waiting.cancel()
        try:
            database = await asyncio.to_thread(_open, self._url)
        except TurnoutError as error:
            logger.error("batches are out of service: %s", error)
            self._problem = error
            return
        # Imported here: both need SQLAlchemy.
        from services.batch_api.targets import PlaneEndpoints
        from services.batch_api.worker import Worker
        from services.metrics.batches import BatchMetrics

        self._database = database
        self._endpoints = endpoints = PlaneEndpoints(self._plane)
        self._worker = Worker(database, endpoints, BatchMetrics())
        self._worker.start()


def _open(url: str) -> Database:
    try:  # imported here: see the module's docstring; and the packages may not be installed
        from services.database.connection import Database
    except ModuleNotFoundError as error:
        raise ConfigError(f"the bulk path needs {error.name!r}; install turnout[bulk]") from error
    database = Database(url)
    database.open()
    return database
