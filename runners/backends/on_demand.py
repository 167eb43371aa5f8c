"""Backends of models loaded on demand: each request waits for its model, and holds it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from runners.pool.pool import Pool
from runners.pool.slot import Slot
from runners.protocol import (
    ActiveEngine,
    BackendLoad,
    TensorBackend,
    TensorResult,
    TextBackend,
    Ticket,
)
from turnout.types import Generation, Piece, Tensors


class _OnDemand:
    """The part that both kinds of backend share.

    Args:
        pool: where the model lives.
        slot: its slot there.
    """

    def __init__(self, pool: Pool, slot: Slot) -> None:
        self._pool = pool
        self.slot = slot

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None while it is not loaded."""
        inner = self.slot.inner
        return None if inner is None else inner.active

    def load_now(self) -> BackendLoad:
        """The present load."""
        inner = self.slot.inner
        return BackendLoad() if inner is None else inner.load_now()

    async def start(self) -> None:
        """Load the model now, without a request; see ``Backend.start``."""
        await self._pool.load(self.slot.name)

    async def stop(self) -> None:
        """Do nothing: the pool stops its models."""

    async def _acquire(self, ticket: Ticket) -> TensorBackend | TextBackend:
        """Return the loaded backend, held for this request until ``_release``.

        It is held from before the load on, so that it is not evicted between the load and its use.
        """
        slot = self.slot
        slot.in_flight += 1
        slot.demand.note(ticket.priority)
        slot.used_s = self._pool.clock()
        if slot.inner is not None:
            slot.hits += 1
            return slot.inner
        slot.misses += 1
        try:
            return await self._pool.acquire(slot, ticket.priority, ticket.deadline_s)
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        self.slot.in_flight -= 1
        if not self.slot.in_flight:
            self._pool.released()


class OnDemandTensors(_OnDemand):
    """A ``TensorBackend`` that is loaded by its requests."""

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        """See ``TensorBackend.infer``; a load within the deadline is part of it."""
        inner = cast("TensorBackend", await self._acquire(ticket))
        try:
            return await inner.infer(tensors, ticket)
        finally:
            self._release()


class OnDemandText(_OnDemand):
    """A ``TextBackend`` that is loaded by its requests."""

    async def generate(self, generation: Generation, ticket: Ticket) -> AsyncIterator[Piece]:
        """See ``TextBackend.generate``; a load within the deadline is part of it."""
        inner = cast("TextBackend", await self._acquire(ticket))
        try:
            pieces = cast("AsyncGenerator[Piece, None]", inner.generate(generation, ticket))
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        finally:
            self._release()
