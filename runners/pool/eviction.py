"""Which resident models make room for another one. Pure: time and sizes are arguments.

A model's *worth* is what it would cost, a second, not to have it: how often it is asked for,
times how long a reload takes, as a share of the deadline of those who ask. The models with the
least worth a byte go first. That is the rule of GreedyDual-Size-Frequency with the deadline in
place of its one cost.

Models of nearly the same worth a byte are told apart by who came last, and the last one goes:
under cyclic access to more models than fit, least-recently-used misses every time, while a stable
set of residents misses only for those outside it.

Source: Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy" (HP Labs, 1998); Belady (1966) for what is best under cyclic access.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_NEARLY = 1.25


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model, as the choice sees it.

    Attributes:
        size_bytes: what its eviction frees.
        worth: cost a second of not having it (see the module).
        loaded_s: when it was loaded; monotonic.
        used_s: when it was last used; monotonic.
        held: pinned, or with work in flight: never evicted.
    """

    name: str
    size_bytes: int
    worth: float
    loaded_s: float
    used_s: float
    held: bool = False


Order: TypeAlias = Callable[[Sequence[Resident]], list[Resident]]


def by_worth(residents: Sequence[Resident]) -> list[Resident]:
    """The least worth a byte first; among nearly equal ones the last to come."""
    left = sorted(residents, key=_density)
    order: list[Resident] = []
    while left:
        limit = _density(left[0]) * _NEARLY
        newest = max((one for one in left if _density(one) <= limit), key=_newest)
        left.remove(newest)
        order.append(newest)
    return order


def by_age(residents: Sequence[Resident]) -> list[Resident]:
    """The least recently used first."""
    return sorted(residents, key=lambda one: (one.used_s, one.name))


ORDERS: Mapping[str, Order] = {"worth": by_worth, "lru": by_age}


def victims(
    residents: Sequence[Resident], need_bytes: int, order: Order = by_worth
) -> tuple[str, ...] | None:
    """Who is evicted to free ``need_bytes``; None when those who may go do not suffice.

    Nobody is evicted whose going turns out not to be needed.
    """
    chosen: list[Resident] = []
    freed = 0
    for one in order([resident for resident in residents if not resident.held]):
        if freed >= need_bytes:
            break
        chosen.append(one)
        freed += one.size_bytes
    if freed < need_bytes:
        return None
    for one in reversed(chosen.copy()):
        if freed - one.size_bytes >= need_bytes:
            chosen.remove(one)
            freed -= one.size_bytes
    return tuple(one.name for one in chosen)


def _density(one: Resident) -> float:
    return one.worth / max(one.size_bytes, 1)


def _newest(one: Resident) -> tuple[float, str]:
    return one.loaded_s, one.name
