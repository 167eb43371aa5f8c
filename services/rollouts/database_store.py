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
from services.rollouts.aliases import Aliases, AliasRow
from services.rollouts.store import Rows, outdated, stored_aliases
from turnout.errors import ConfigError

logger = logging.getLogger("turnout.rollouts")

T = TypeVar("T")
_LOCK = 0x7475726F  # any number no other program uses


class DatabaseAliasStore:
    """``AliasStore`` in a table that every worker, and every replica, shares.

    Args:
        url: see ``Database``.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._open = False

    async def begin(self, initial: Rows) -> Rows:
        """See ``AliasStore.begin``.

        Raises:
            ConfigError: the database cannot be reached.
        """

        def work(connection: Connection) -> Rows:
            _lock(connection)
            for name, row in outdated(_read(connection), initial).items():
                _write(connection, name, row)
            return _read(connection)

        return await self._try(lambda: self._database.write_now(work))

    async def read(self) -> Rows:
        """See ``AliasStore.read``."""
        return await self._try(lambda: self._database.read_now(_read))

    async def change(
        self, name: str, basis: str, current: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        """See ``AliasStore.change``; one change at a time, whoever makes it."""

        def work(connection: Connection) -> Aliases:
            _lock(connection)
            old = stored_aliases(_read(connection), name, basis, current)
            new = step(old)
            if new is not old:
                _write(connection, name, AliasRow(basis, new))
            return new

        return await self._try(lambda: self._database.write_now(work))

    async def close(self) -> None:
        """See ``AliasStore.close``."""
        self._database.close()

    async def _try(self, work: Callable[[], T]) -> T:
        def open_and_work() -> T:
            if not self._open:
                self._database.open()
                self._open = True
            return work()

        try:
            return await self._database.apart(open_and_work)
        except SQLAlchemyError as error:
            raise ConfigError(
                f"the aliases of models cannot be read or kept: {error}; see TURNOUT_DATABASE_URL"
            ) from error


def _lock(connection: Connection) -> None:
    """Let one writer pass at a time; SQLite's transactions that write do so by themselves."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _read(connection: Connection) -> Rows:
    rows: dict[str, AliasRow] = {}
    for row in connection.execute(select(table)).mappings():
        name = row["model"]
        try:
            aliases = Aliases.from_json(json.loads(row["aliases"]))
        except ValueError:
            logger.warning("the aliases of model %s cannot be read, so they begin anew", name)
        else:
            rows[name] = AliasRow(row["basis"], aliases)
    return rows


def _write(connection: Connection, name: str, row: AliasRow) -> None:
    connection.execute(delete(table).where(table.c.model == name))
    connection.execute(
        insert(table).values(
            model=name,
            basis=row.basis,
            aliases=json.dumps(row.aliases.as_json()),
            changed_at=now_s(),
        )
    )
