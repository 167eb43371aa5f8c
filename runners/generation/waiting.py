"""Generations that wait for a slot. Pure: time is an argument.

Strict priority (0 first), earliest deadline first within it, then arrival. Work that has waited
``ageing_s`` longer than anything was admitted goes first once, so that bulk always progresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place(Generic[T]):
    """One waiting piece of work."""

    item: T
    priority: int
    deadline_s: float
    arrived_s: float


class WaitingList(Generic[T]):
    """A short list, searched whole: a step of any model takes longer than that.

    Args:
        ageing_s: how long work waits before it goes ahead of more urgent work.
    """

    def __init__(self, ageing_s: float = 5.0) -> None:
        self._ageing_s = ageing_s
        self._places: list[Place[T]] = []
        self._admitted_aged_s = float("-inf")

    def __len__(self) -> int:
        """How many wait."""
        return len(self._places)

    def push(self, place: Place[T]) -> None:
        """Add work."""
        self._places.append(place)

    def drop(self, item: T) -> bool:
        """Take back work whose client has gone; False when it no longer waits."""
        before = len(self._places)
        self._places = [place for place in self._places if place.item is not item]
        return len(self._places) < before

    def expired(self, now_s: float) -> list[Place[T]]:
        """Take out all work whose deadline has passed."""
        late = [place for place in self._places if place.deadline_s < now_s]
        if late:
            self._places = [place for place in self._places if place.deadline_s >= now_s]
        return late

    def first(self, now_s: float) -> Place[T] | None:
        """The work to admit next; it stays until ``take``."""
        aged_before_s = now_s - self._ageing_s
        may_age = self._admitted_aged_s <= aged_before_s

        def order(place: Place[T]) -> tuple[bool, int, float, float]:
            fresh = not (may_age and place.arrived_s <= aged_before_s)
            return fresh, place.priority, place.deadline_s, place.arrived_s

        return min(self._places, key=order, default=None)

    def take(self, place: Place[T], now_s: float) -> None:
        """Remove work that is being admitted."""
        if place.arrived_s <= now_s - self._ageing_s:
            self._admitted_aged_s = now_s
        self._places.remove(place)

    def clear(self) -> list[Place[T]]:
        """Take out everything."""
        places, self._places = self._places, []
        return places
