"""Admission of short requests: a bound on their number under way, so that answers are in time.

A model that takes microseconds is limited by the event loop, not by its own queue, so only the
number of requests under way tells how long a new one will take. The bound follows the time they
spend inside: up while that is short and the bound was met, down when it is long. Less urgent
classes may fill less of it, so bulk is refused first and real time last.

Refusing has to cost far less than serving, or a server under three times its load does nothing
else: ``services/server/fast_path.py`` checks this before a request is parsed.

Sources: Chiu & Jain, Computer Networks and ISDN Systems 17 (1989), for the control; Nichols &
Jacobson, "Controlling Queue Delay" (ACM Queue 10, 2012), for judging a queue by its delay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from turnout.catalog import Catalog
from turnout.errors import Overloaded

_TARGET_SHARE = 0.25
_FIRST_LIMIT = 256.0
_LIMITS = (32.0, 4096.0)
_WINDOW_S = 0.1
_GROWTH = 1.1
_MOST_SHRINK = 0.7
_FULL = 0.8
_RANK_SHARE = 0.25
_LONGEST_RETRY_S = 30.0


class Admission:
    """Counts the short requests under way and bounds their number.

    Args:
        shares: share of the bound that each class may fill, by name.
        target_s: longest mean time inside, over a tenth of a second.
        clock: monotonic seconds.
        refused: called for each refusal.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        target_s: float,
        clock: Callable[[], float],
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._shares = shares
        self._target_s = target_s
        self._clock = clock
        self._refused = refused
        self.limit = _FIRST_LIMIT
        self.inside = 0
        self.arriving = 0
        self.beginning = 0
        self.turn_s = clock()
        self._window_s = self.turn_s
        self._spent_s = 0.0
        self._answered = self._turned_away = 0
        self._fullest = 0
        self.retry_after_s = 1.0

    def retune(self, shares: Mapping[str, float], target_s: float) -> None:
        """Use another catalog's terms from now on; requests inside stay counted."""
        self._shares, self._target_s = shares, target_s

    @property
    def crowded(self) -> bool:
        """Whether any class is near its bound; if not, ``admits`` need not be called."""
        return self.inside + self.arriving >= self.limit * _RANK_SHARE

    def admits(self, latency_class: str) -> bool:
        """Return whether one more request of this class may come in.

        Unknown classes are admitted: their handler refuses them with a better message.
        """
        return self.inside + self.arriving < self.limit * self._shares.get(latency_class, 1.0)

    def arrive(self) -> bool:
        """Count a request that was read from its socket and has not begun.

        True for the first of a turn of the event loop: the caller then has ``begin_turn`` called
        once all that is ready has been read.
        """
        self.arriving += 1
        if self.arriving > 1:
            return False
        self.turn_s = self._clock()
        return True

    def begin_turn(self) -> None:
        """Let the arrived requests begin; each then counts itself with ``enter``."""
        self.beginning, self.arriving = self.arriving, 0

    def enter(self) -> float:
        """Count a request in; returns the instant from which its time inside counts."""
        self.inside += 1
        self._fullest = max(self._fullest, self.inside)
        if self.beginning:
            self.beginning -= 1
            return self.turn_s
        return self._clock()

    def leave(self, entered_s: float) -> None:
        """Count a request out, however it ended."""
        self.inside -= 1
        now_s = self._clock()
        self._spent_s += now_s - entered_s
        self._answered += 1
        if now_s - self._window_s > _WINDOW_S:
            self._adapt(now_s)

    def refuse(self) -> None:
        """Count a request turned away."""
        self._turned_away += 1
        self._refused()

    def overloaded(self) -> Overloaded:
        """Return the error of a refused request."""
        return overloaded(self.retry_after_s)

    def _adapt(self, now_s: float) -> None:
        mean_s = self._spent_s / self._answered
        full = self._turned_away > 0 or self._fullest >= _FULL * self.limit
        if full and mean_s > self._target_s:
            self.limit *= max(self._target_s / mean_s, _MOST_SHRINK)
        elif full or self.limit < _FIRST_LIMIT:
            # A slow moment without load (another process had the cores) is no reason to shrink.
            self.limit *= _GROWTH
        self.limit = min(max(self.limit, _LIMITS[0]), _LIMITS[1])
        # Spread over this time, all refused requests of the window would be admitted.
        seconds = math.ceil((self._turned_away + self._answered) / self._answered)
        self.retry_after_s = min(float(seconds), _LONGEST_RETRY_S)
        self._window_s, self._spent_s = now_s, 0.0
        self._answered = self._turned_away = self._fullest = 0


def overloaded(retry_after_s: float) -> Overloaded:
    """Return the error of a refused request, with the seconds after which to retry."""
    return Overloaded(
        f"more requests arrive than can be answered in time; retry in {retry_after_s:g} s",
        retry_after_s=retry_after_s,
    )


def admission_terms(catalog: Catalog) -> tuple[dict[str, float], float]:
    """Return an admission's terms: shares by urgency, the target by the tightest deadline."""
    classes = catalog.classes
    ranks = sorted({latency_class.priority for latency_class in classes.values()})
    shares = {
        name: max(1.0 - _RANK_SHARE * ranks.index(latency_class.priority), _RANK_SHARE)
        for name, latency_class in classes.items()
    }
    tightest_s = min(latency_class.deadline_ms for latency_class in classes.values()) / 1e3
    return shares, _TARGET_SHARE * tightest_s
