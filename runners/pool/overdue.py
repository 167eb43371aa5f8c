"""Loads that were given up and are still under way: counted until they end, then closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from runners.pool.demand import Demand
from runners.pool.roster import Roster
from runners.pool.slot import Slot, State
from runners.protocol import TensorBackend, TextBackend
from turnout.errors import LoadFailed

logger = logging.getLogger("turnout.pool")


class Overdue:
    """Bounds the loads of one pool, and looks after those that took too long.

    A load cannot be stopped from outside. What a model's latest one may still take stays reserved
    until it ends; earlier ones count by what the process is seen to take.

    Args:
        roster: the pool's models.
        ended: told when such a load has ended and what it took is free.
    """

    def __init__(self, roster: Roster, ended: Callable[[], None]) -> None:
        self._roster = roster
        self._ended = ended
        self._left: dict[str, Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def any(self) -> bool:
        """Whether such a load is under way."""
        return bool(self._tasks)

    async def start(self, slot: Slot, inner: TensorBackend | TextBackend) -> None:
        """Load a model, for no longer than it may take.

        Raises:
            LoadFailed: it took longer; or see ``Backend.start``.
        """
        loop = asyncio.get_running_loop()
        loading = loop.create_task(inner.start())
        limit_s = slot.max_load_s
        try:
            await asyncio.wait([loading], timeout=None if limit_s == float("inf") else limit_s)
        except asyncio.CancelledError:
            loading.cancel()
            raise
        if loading.done():
            return loading.result()
        task = loop.create_task(self._look_after(self._leave(slot), inner, loading))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        raise LoadFailed(slot.name, f"its load took over {limit_s:g} s and was given up")

    async def stop(self) -> None:
        """Wait for none of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _leave(self, slot: Slot) -> Slot:
        """The place in the pool of what is still loading, apart from the model's own."""
        left = replace(slot, state=State.LOADING, waiting=None, demand=Demand(), in_flight=0)
        earlier = self._left.get(slot.name)
        if earlier is not None:
            self._roster.retiring.discard(earlier)
        self._left[slot.name] = left
        self._roster.retiring.add(left)
        logger.error("the load of model %s took over %g s", slot.name, slot.max_load_s)
        return left

    async def _look_after(
        self, left: Slot, inner: TensorBackend | TextBackend, loading: asyncio.Task[None]
    ) -> None:
        try:
            await asyncio.wait([loading])
            if loading.exception() is None:
                logger.info("model %s came up after its load was given up: closed", left.name)
                await inner.stop()
        finally:
            loading.cancel()
            self._roster.retiring.discard(left)
            if self._left.get(left.name) is left:
                del self._left[left.name]
            self._ended()
