"""The aliases in the gateway's database; imported only where a catalog has versions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, delete, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from services.database.connection import Database
from services.database.tables import aliases as table
from services.database.tables import now_s
from services.rollouts.aliases import Aliases
from services.rollouts.store import Rows
from turnout.errors import ConfigError

logger = logging.getLogger("turnout.rollouts")

T = TypeVar("T")
_LOCK = 0x7475726F  # any number no other program uses


class DatabaseAliasStore:
    """``Book`` in a table that every worker, and every replica, shares.

    Args:
        url: see ``Database``.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._open = False

    async def begin(self, written: Rows) -> Rows:
        """See ``Book.begin``.

        Raises:
            ConfigError: the database cannot be reached.
        """

        def work(connection: Connection) -> Rows:
            _alone(connection)
            kept = _read(connection)
            for name, (basis, aliases) in written.items():
                if name not in kept or kept[name][0] != basis:
                    _write(connection, name, basis, aliases)
            return _read(connection)

        return await self._try(lambda: self._database.write_now(work))

    async def read(self) -> Rows:
        """See ``Book.read``."""
        return await self._try(lambda: self._database.read_now(_read))

    async def change(
        self, name: str, basis: str, now: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        """See ``Book.change``; one change at a time, whoever makes it."""

        def work(connection: Connection) -> Aliases:
            _alone(connection)
            kept = _read(connection).get(name)
            old = now if kept is None or kept[0] != basis else kept[1]
            new = step(old)
            if new is not old:
                _write(connection, name, basis, new)
            return new

        return await self._try(lambda: self._database.write_now(work))

    async def close(self) -> None:
        """See ``Book.close``."""
        self._database.close()

    async def _try(self, work: Callable[[], T]) -> T:
        def reached() -> T:
            if not self._open:
                self._database.open()
                self._open = True
            return work()

        try:
            return await self._database.apart(reached)
        except SQLAlchemyError as error:
            raise ConfigError(
                f"the aliases of models cannot be read or kept: {error}; see TURNOUT_DATABASE_URL"
            ) from error


def _alone(connection: Connection) -> None:
    """One writer at a time; SQLite's transactions that write are that by themselves."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _read(connection: Connection) -> Rows:
    found: dict[str, tuple[str, Aliases]] = {}
    for row in connection.execute(select(table)).mappings():
        name = row["model"]
        try:
            found[name] = row["basis"], Aliases.from_json(json.loads(row["aliases"]))
        except (ValueError, TypeError, KeyError):
            logger.warning("the aliases of model %s cannot be read, so they begin anew", name)
    return found


def _write(connection: Connection, name: str, basis: str, aliases: Aliases) -> None:
    connection.execute(delete(table).where(table.c.model == name))
    connection.execute(
        insert(table).values(
            model=name, basis=basis, aliases=json.dumps(aliases.as_json()), changed_at=now_s()
        )
    )
