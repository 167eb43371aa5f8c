"""Where aliases are kept: in memory, or in the gateway's database, where every worker reads them.

A row is kept with its *basis*: what the catalog said of this model when the row was written. A
gateway heeds rows of its own basis only, and writes the catalog's word over any other when it
starts or reloads, so an edit of the catalog counts from then on, and nothing older comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from services.rollouts.aliases import Aliases

Rows: TypeAlias = "Mapping[str, tuple[str, Aliases]]"
"""Basis and aliases by model."""


class AliasStore(Protocol):
    """The aliases of every versioned model."""

    async def begin(self, written: Rows) -> Rows:
        """Heed the rows of the same basis, write the catalog's word over the others.

        Args:
            written: what the catalog says.

        Returns:
            What holds from now on.
        """
        ...

    async def read(self) -> Rows:
        """Every row, of whatever basis."""
        ...

    async def change(
        self, name: str, basis: str, now: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        """Take a step from what is kept, or from ``now`` where nothing of this basis is.

        Raises:
            InvalidRequest: there is no such step from there.
        """
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class MemoryAliasStore:
    """A book that ends with the process."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, Aliases]] = {}

    async def begin(self, written: Rows) -> Rows:
        """See ``AliasStore.begin``."""
        for name, (basis, aliases) in written.items():
            if name not in self._rows or self._rows[name][0] != basis:
                self._rows[name] = basis, aliases
        return await self.read()

    async def read(self) -> Rows:
        """See ``AliasStore.read``."""
        return dict(self._rows)

    async def change(
        self, name: str, basis: str, now: Aliases, step: Callable[[Aliases], Aliases]
    ) -> Aliases:
        """See ``AliasStore.change``."""
        kept = self._rows.get(name)
        old = now if kept is None or kept[0] != basis else kept[1]
        new = step(old)
        self._rows[name] = basis, new
        return new

    async def close(self) -> None:
        """See ``AliasStore.close``."""


def now_iso() -> str:
    """Wall-clock time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
