"""The bound on rows that run at once: additive increase, multiplicative decrease.

Two signals shrink it: a model's queue is full, or the event loop runs late. The second protects
real-time requests, which share that loop: the queues serve them first, but every row of a batch
that is ready when they arrive is handled before them.

Source: Chiu & Jain, Computer Networks and ISDN Systems 17 (1989): AIMD converges and is fair.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

LAG_TARGET_S = 0.008
_GROWTH_ROWS = 2.0
_SHRINK = 0.75
_REFUSED_SHRINK = 0.5
_REFUSED_EVERY_S = 0.5


class ConcurrencyWindow:
    """A bound on rows that run at once, which adapts.

    Args:
        most: its upper bound; enough to fill the engine's next batch while one runs.
        clock: monotonic seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = float(most)
        self._clock = clock
        self._limit = float(min(most, 8))
        self._in_use = 0
        self._was_full = False
        self._refused_s = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """Rows that may run at once now; at least one."""
        return int(self._limit)

    @property
    def in_use(self) -> int:
        """Rows that run now."""
        return self._in_use

    @property
    def starving(self) -> bool:
        """Whether fewer rows wait than may run at once."""
        return len(self._waiting) < self.limit

    async def acquire(self) -> None:
        """Wait until a row may run; rows pass in order of arrival."""
        if self._in_use < self.limit and not self._waiting:
            self._in_use += 1
            return
        self._was_full = True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """A row has ended: let the next one run."""
        self._in_use -= 1
        self._admit()

    def refused(self) -> None:
        """Shrink, as a model's queue was full. Refusals that come together count once."""
        if self._clock() - self._refused_s >= _REFUSED_EVERY_S:
            self._refused_s = self._clock()
            self._limit = max(self._limit * _REFUSED_SHRINK, 1.0)

    def lagged(self, lag_s: float) -> None:
        """Adapt to the worst lateness of the event loop since the last call."""
        if lag_s > LAG_TARGET_S:
            self._limit = max(self._limit * _SHRINK, 1.0)
        elif self._was_full:
            self._limit = min(self._limit + _GROWTH_ROWS, self._most)
        self._was_full = bool(self._waiting)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._in_use < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_use += 1
                turn.set_result(None)
