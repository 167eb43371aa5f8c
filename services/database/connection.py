"""One database, SQLite or PostgreSQL, used from threads of its own.

SQLite runs in WAL mode with ``synchronous=FULL``: a committed transaction survives the loss of
power, not only of the process. Transactions that write begin with ``BEGIN IMMEDIATE``, so that two
writers wait for each other instead of one of them failing halfway.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from turnout.errors import ConfigError

T = TypeVar("T")

HEAD = "0004"
_WRITES = "turnout_writes"
_THREADS = 4
_BUSY_MS = 30_000
_RETRY_S = 0.01
_MIGRATION_LOCK = 0x7475726E  # any number no other program uses: "turn"
_DIALECTS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


class Database:
    """A database by URL.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.

    Raises:
        ConfigError: the URL cannot be read, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bulk-db")

    def open(self) -> None:
        """Migrate the tables. Blocks; several processes may do it at once.

        Raises:
            ConfigError: the database cannot be reached.
        """
        try:
            with self._writing().begin() as connection:
                _migrate(connection)
        except SQLAlchemyError as error:
            raise ConfigError(
                f"the bulk database {self._engine.url!r} cannot be used: {error}; see "
                "TURNOUT_DATABASE_URL"
            ) from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction that may write; committed when this returns."""
        return await self._in_thread(self.write_now, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction that only reads."""
        return await self._in_thread(self.read_now, work)

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """Like ``write``, in the caller's thread."""
        with self._writing().begin() as connection:
            return work(connection)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """Like ``read``, in the caller's thread."""
        with self._engine.begin() as connection:
            return work(connection)

    async def apart(self, work: Callable[[], T]) -> T:
        """Run long ``work``, with its own transactions, on one of the database's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Close each connection once its transaction has ended; does not wait for that."""
        self._threads.shutdown(wait=False)
        # Disposed while a transaction runs, the pool would leave its connection open.
        threading.Thread(target=self._dispose, name="bulk-db-close", daemon=True).start()

    def _dispose(self) -> None:
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    def _writing(self) -> Engine:
        return self._engine.execution_options(**{_WRITES: True})

    async def _in_thread(
        self, run: Callable[[Callable[[Connection], T]], T], work: Callable[[Connection], T]
    ) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, work)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DIALECTS.get(parsed.drivername, parsed.drivername))
        if parsed.get_backend_name() == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed)
            event.listen(engine, "connect", _sqlite_connected)
            event.listen(engine, "begin", _sqlite_begins)
            return engine
        return create_engine(parsed, pool_pre_ping=True)
    except ArgumentError as error:
        raise ConfigError(f"TURNOUT_DATABASE_URL is no database URL: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"TURNOUT_DATABASE_URL needs {error.name!r}, which is not installed; "
            "install turnout[postgres]"
        ) from error


def _sqlite_connected(connection: Any, record: object) -> None:
    connection.isolation_level = None  # transactions begin in _sqlite_begins
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    _switch_to_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _switch_to_wal(connection: Any) -> None:
    """Switch to WAL; where two do so at once SQLite fails one without waiting, so it retries."""
    limit_s = time.monotonic() + _BUSY_MS / 1e3
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > limit_s:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _sqlite_begins(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    """Apply the missing migrations; SQLite's write lock, or a PostgreSQL lock, keeps others out."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    if _version(connection) == HEAD:
        return
    # Imported here: most starts need no migration, and do not wait for Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "bulk_schema"):
        return None
    return connection.execute(text("SELECT version_num FROM bulk_schema")).scalar()
