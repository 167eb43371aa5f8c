"""The order in which waiting work runs, and which of it runs together. Pure: time is an argument.

Strict classes (priority 0 first), earliest deadline first within a class. A class that was not
served for ``ageing_s`` goes first for one piece of work, so bulk always progresses. Work whose
deadline has passed is handed back instead of run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Waiting(Generic[T]):
    """One piece of waiting work.

    Attributes:
        item: the work itself.
        rows: how many rows it adds to a batch.
        priority: its class; 0 first.
        deadline_s: monotonic instant after which running it is of no use.
        arrived_s: monotonic instant at which it was queued.
        dropped: it has left the queue, and is skipped where a heap still holds it.
    """

    item: T
    rows: int
    priority: int
    deadline_s: float
    arrived_s: float
    dropped: bool = False


_Heap: TypeAlias = list[tuple[float, int, Waiting[T]]]  # deadline, order of arrival, work


@dataclass(slots=True)
class Taken(Generic[T]):
    """The result of ``WorkQueue.take``: a batch to run, and expired work."""

    batch: list[Waiting[T]]
    expired: list[Waiting[T]]


class WorkQueue(Generic[T]):
    """A bounded priority queue that forms batches.

    Args:
        max_rows: the most rows that may wait.
        ageing_s: how long a class waits before one piece of its work goes first.
    """

    def __init__(self, max_rows: int, ageing_s: float = 1.0) -> None:
        self._max_rows = max_rows
        self._ageing_s = ageing_s
        self._heaps: dict[int, _Heap[T]] = {}
        self._class_rows: dict[int, int] = {}
        self._served_s: dict[int, float] = {}
        self._sequence = 0
        self._rows = 0
        self._count = 0

    def __len__(self) -> int:
        """Pieces of work that wait."""
        return self._count

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    def fits(self, rows: int, coming: int = 0) -> bool:
        """Whether ``rows`` more may wait beside those that are ``coming`` already.

        A queue that is empty, with nothing coming, takes any one piece of work.
        """
        alone = self._count == 0 and not coming
        return alone or self._rows + coming + rows <= self._max_rows

    def rows_before(self, priority: int) -> int:
        """Rows that are served before a new arrival of this class."""
        return sum(rows for level, rows in self._class_rows.items() if level <= priority)

    def push(self, waiting: Waiting[T]) -> None:
        """Queue work; the caller checks ``fits`` first."""
        self._sequence += 1
        heap = self._heaps.setdefault(waiting.priority, [])
        heapq.heappush(heap, (waiting.deadline_s, self._sequence, waiting))
        self._count_in(waiting)

    def evict(self, rows: int, priority: int) -> list[Waiting[T]]:
        """Remove and return less urgent work until ``rows`` more fit; empty when that cannot be.

        The least urgent class gives way first, and within a class never its most urgent piece
        while it has another (a leaf of its heap goes, which needs no search).
        """
        levels = sorted((level for level in self._heaps if level > priority), reverse=True)
        needed = self._rows + rows - self._max_rows
        if sum(self._class_rows.get(level, 0) for level in levels) < needed:
            return []
        evicted: list[Waiting[T]] = []
        for level in levels:
            heap = self._heaps[level]
            while heap and self._rows + rows > self._max_rows:
                waiting = heap.pop()[2]
                if not waiting.dropped:
                    self._count_out(waiting)
                    evicted.append(waiting)
        return evicted

    def drop(self, waiting: Waiting[T]) -> None:
        """Remove work that still waits, because its client has gone."""
        if not waiting.dropped:
            self._count_out(waiting)

    def take(self, now_s: float, max_rows: int, run_s: Callable[[int], float]) -> Taken[T]:
        """Form the next batch: the most urgent work, and work that may join it without harm.

        Work joins while the batch stays within ``max_rows`` and the longer run would not make
        any member miss its deadline that it would otherwise have held.

        Args:
            now_s: the present instant.
            max_rows: the most rows in one run; a single larger piece still runs, alone.
            run_s: expected seconds of a run of so many rows.
        """
        batch: list[Waiting[T]] = []
        expired: list[Waiting[T]] = []
        rows = 0
        held_s = float("inf")  # the tightest deadline among the members that hold theirs
        while (heap := self._next_heap(now_s)) is not None:
            waiting = heap[0][2]
            if waiting.deadline_s < now_s:
                expired.append(self._pop(heap))
                continue
            done_s = now_s + run_s(rows + waiting.rows)
            if batch and (rows + waiting.rows > max_rows or done_s > held_s):
                break
            batch.append(self._pop(heap))
            self._served_s[waiting.priority] = now_s
            rows += waiting.rows
            if waiting.deadline_s >= done_s:
                held_s = min(held_s, waiting.deadline_s)
        return Taken(batch, expired)

    def clear(self) -> Iterator[Waiting[T]]:
        """Remove and yield everything that waits."""
        for heap in self._heaps.values():
            yield from (waiting for _, _, waiting in heap if not waiting.dropped)
        self._heaps.clear()
        self._class_rows.clear()
        self._rows = self._count = 0

    def _pop(self, heap: _Heap[T]) -> Waiting[T]:
        waiting = heapq.heappop(heap)[2]
        self._count_out(waiting)
        return waiting

    def _count_in(self, waiting: Waiting[T]) -> None:
        self._rows += waiting.rows
        self._count += 1
        level = waiting.priority
        self._class_rows[level] = self._class_rows.get(level, 0) + waiting.rows

    def _count_out(self, waiting: Waiting[T]) -> None:
        waiting.dropped = True
        self._rows -= waiting.rows
        self._count -= 1
        self._class_rows[waiting.priority] -= waiting.rows

    def _next_heap(self, now_s: float) -> _Heap[T] | None:
        best: _Heap[T] | None = None
        best_key = (True, float("inf"))
        for priority in list(self._heaps):
            heap = self._heaps[priority]
            while heap and heap[0][2].dropped:
                heapq.heappop(heap)
            if not heap:
                del self._heaps[priority]
                continue
            since_s = max(heap[0][2].arrived_s, self._served_s.get(priority, 0.0))
            key = (now_s - since_s < self._ageing_s, float(priority))
            if key < best_key:
                best, best_key = heap, key
        return best
