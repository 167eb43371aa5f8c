"""Stores of aliases: in memory, or in the gateway's database, where every worker reads them.

A row has the *basis* it was written on: a hash of what the catalog said of this model. A gateway
heeds rows of its own basis only, and replaces all others by the catalog's aliases when it starts or
reloads, so an edit of the catalog counts from then on, and nothing older comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from services.rollouts.aliases import Aliases, AliasRow
from turnout.errors import ConfigError

logger = logging.getLogger("turnout.rollouts")

Rows: TypeAlias = "Mapping[str, AliasRow]"
"""Aliases and their basis by model."""


class AliasStore(Protocol):
    """The aliases of every versioned model."""

    async def begin(self, initial: Rows) -> Rows:
        """Keep the rows of the same basis, replace the others.

        Args:
            initial: as the catalog says.

        Returns:
            The rows that hold from now on.
        """
        ...

    async def read(self) -> Rows:
        """Every row, of whatever basis."""
        ...

    async def change(
        self, name: str, basis: str, current: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        """Take a step from the stored aliases, or from ``current`` where none have this basis.

        Raises:
            InvalidRequest: there is no such step from there.
        """
        ...

    async def close(self) -> None:
        """Close the store."""
        ...


class MemoryAliasStore:
    """A store that ends with the process."""

    def __init__(self) -> None:
        self._rows: dict[str, AliasRow] = {}

    async def begin(self, initial: Rows) -> Rows:
        """See ``AliasStore.begin``."""
        self._rows |= outdated(self._rows, initial)
        return await self.read()

    async def read(self) -> Rows:
        """See ``AliasStore.read``."""
        return dict(self._rows)

    async def change(
        self, name: str, basis: str, current: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        """See ``AliasStore.change``."""
        new = step(stored_aliases(self._rows, name, basis, current))
        self._rows[name] = AliasRow(basis, new)
        return new

    async def close(self) -> None:
        """See ``AliasStore.close``."""


class ExclusiveStore:
    """A store that is opened when it is first used, by one task at a time, within a time limit.

    Args:
        open_store: opens it, on a thread.
        limit_s: how long one use may take.
    """

    def __init__(self, open_store: Callable[[], AliasStore], limit_s: float) -> None:
        self._open = open_store
        self._limit_s = limit_s
        self._store: AliasStore | None = None
        self._lock = asyncio.Lock()  # a read that began before a change must not undo it

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[AliasStore, None]:
        """The store, while no other task uses it.

        Raises:
            ConfigError: it did not answer in time. A change that was under way may still be
                stored: the next reading shows it.
        """
        try:
            async with asyncio.timeout(self._limit_s), self._lock:
                if self._store is None:
                    self._store = await asyncio.to_thread(self._open)
                yield self._store
        except TimeoutError as error:
            raise ConfigError(
                "the aliases of models cannot be read or kept: the database has not answered for "
                f"{self._limit_s:g} s; see TURNOUT_DATABASE_URL, and look where the aliases are "
                "before you try again"
            ) from error

    async def close(self) -> None:
        """Close the store; does not wait for one that hangs."""
        if self._store is None:
            return
        try:
            await asyncio.wait_for(self._store.close(), self._limit_s)
        except TimeoutError:
            logger.warning("the store of aliases could not be closed in time")


def outdated(rows: Rows, initial: Rows) -> dict[str, AliasRow]:
    """The catalog's rows of models whose stored row is missing or has another basis."""
    return {
        name: row
        for name, row in initial.items()
        if name not in rows or rows[name].basis != row.basis
    }


def stored_aliases(rows: Rows, name: str, basis: str, default: Aliases) -> Aliases:
    """The stored aliases of a model; ``default`` where none have this basis."""
    row = rows.get(name)
    return default if row is None or row.basis != basis else row.aliases


def now_iso() -> str:
    """Wall-clock time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
