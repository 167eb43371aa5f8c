"""How often a model is asked for, by class, forgetting what is long ago. Pure: time is given."""

from __future__ import annotations

import math
from collections.abc import Mapping

_HALF_LIFE_S = 120.0


class Demand:
    """Exponentially decayed counts of requests, one for each priority.

    Args:
        half_life_s: after which a request counts half.
    """

    def __init__(self, half_life_s: float = _HALF_LIFE_S) -> None:
        self._decay = math.log(2.0) / half_life_s
        self._counts: dict[int, float] = {}
        self._new: dict[int, int] = {}
        self._at_s: float | None = None

    def note(self, priority: int) -> None:
        """A request of this class asks for the model; counted from the next ``rate`` on."""
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
        """What it costs, a second, not to have the model loaded.

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
