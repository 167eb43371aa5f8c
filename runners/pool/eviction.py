"""Which resident models make room for another one. Pure: time and sizes are arguments.

A model's *worth* is the cost, a second, of not having it: how often it is requested, times how
long a reload takes, as a share of the deadline of the requests. The models with the
least worth a byte go first. That is the rule of GreedyDual-Size-Frequency with the deadline in
place of its one cost.

Among models of nearly the same worth a byte the one loaded last goes:
under cyclic access to more models than fit, least-recently-used misses every time, while a stable
set of residents misses only for those outside it.

Source: Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy" (HP Labs, 1998); Belady (1966) for the optimum under cyclic access.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_NEARLY = 1.25
_HALF_LIFE_S = 120.0


class Demand:
    """How often a model is requested: exponentially decayed counts, one for each priority.

    Args:
        half_life_s: after which a request counts half.
    """

    def __init__(self, half_life_s: float = _HALF_LIFE_S) -> None:
        self._decay = math.log(2.0) / half_life_s
        self._counts: dict[int, float] = {}
        self._new: dict[int, int] = {}
        self._at_s: float | None = None

    def note(self, priority: int) -> None:
        """Count a request of this class; ``rate`` includes it from its next call on."""
        self._new[priority] = self._new.get(priority, 0) + 1

    def rate(self, now_s: float) -> Mapping[int, float]:
        """Requests a second by priority, as of now."""
        if self._at_s is not None and now_s > self._at_s and self._counts:
            keep = math.exp(-self._decay * (now_s - self._at_s))
            self._counts = {level: count * keep for level, count in self._counts.items()}
        self._at_s = now_s
        if self._new:
            for level, count in self._new.items():
                self._counts[level] = self._counts.get(level, 0.0) + count
            self._new.clear()
        return {level: count * self._decay for level, count in self._counts.items()}

    def worth(self, urgency: Mapping[int, float], reload_s: float, now_s: float) -> float:
        """Return the cost a second of not having the model loaded.

        Args:
            urgency: by priority, one over the deadline of its class, in 1/s.
            reload_s: seconds a load takes.
            now_s: the present instant.

        Returns:
            shares of a deadline spent on reloads, a second.
        """
        least = min(urgency.values(), default=1.0)
        return reload_s * sum(
            rate * urgency.get(level, least) for level, rate in self.rate(now_s).items()
        )


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model, as a candidate for eviction.

    Attributes:
        size_bytes: freed by its eviction.
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
    """Order by least worth a byte; among nearly equal ones the last loaded first."""
    left = sorted(residents, key=_density)
    order: list[Resident] = []
    while left:
        limit = _density(left[0]) * _NEARLY
        newest = max((resident for resident in left if _density(resident) <= limit), key=_newest)
        left.remove(newest)
        order.append(newest)
    return order


def by_age(residents: Sequence[Resident]) -> list[Resident]:
    """Order by least recent use."""
    return sorted(residents, key=lambda resident: (resident.used_s, resident.name))


ORDERS: Mapping[str, Order] = {"worth": by_worth, "lru": by_age}


def victims(
    residents: Sequence[Resident], need_bytes: int, order: Order = by_worth
) -> tuple[str, ...] | None:
    """Choose who is evicted to free ``need_bytes``; None when those who may go do not suffice.

    A model whose eviction turns out not to be needed is left out.
    """
    chosen: list[Resident] = []
    freed = 0
    for resident in order([resident for resident in residents if not resident.held]):
        if freed >= need_bytes:
            break
        chosen.append(resident)
        freed += resident.size_bytes
    if freed < need_bytes:
        return None
    for resident in reversed(chosen.copy()):
        if freed - resident.size_bytes >= need_bytes:
            chosen.remove(resident)
            freed -= resident.size_bytes
    return tuple(resident.name for resident in chosen)


def _density(resident: Resident) -> float:
    return resident.worth / max(resident.size_bytes, 1)


def _newest(resident: Resident) -> tuple[float, str]:
    return resident.loaded_s, resident.name
