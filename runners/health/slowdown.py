"""Detects that a model has become much slower than it was. Pure."""

from __future__ import annotations

from collections.abc import Callable

from runners.protocol import RunTimes

_RECENT, _USUAL = 1 / 16, 1 / 1024
_LEAST_RUNS = 64
_SLOW = 5.0


class Pace:
    """Compares a model's latest runs with its usual ones.

    A run counts as the ratio of its time to the expected time of its size, so that large batches
    do not count as slow. While the model is slow its usual pace is not updated.
    """

    def __init__(self) -> None:
        self._runs = 0
        self._recent = 0.0
        self._usual = 0.0

    def observe(self, run_s: float, expected_s: float) -> None:
        """Learn from one run.

        Args:
            run_s: seconds it took.
            expected_s: seconds of a run of its size by the catalog's profile.
        """
        if expected_s <= 0.0:
            return
        ratio = run_s / expected_s
        self._runs += 1
        self._recent += max(_RECENT, 1 / self._runs) * (ratio - self._recent)
        if self._runs <= _LEAST_RUNS or self.times_slower < _SLOW / 2:
            self._usual += max(_USUAL, 1 / self._runs) * (ratio - self._usual)

    @property
    def times_slower(self) -> float:
        """Ratio of the latest runs to the usual ones; 1 before there are enough runs."""
        if self._runs < _LEAST_RUNS or self._usual <= 0.0:
            return 1.0
        return self._recent / self._usual

    def slow_reason(self) -> str | None:
        """Return why the model counts as slow; None when it does not."""
        times = self.times_slower
        return f"runs take {times:.1f} times what they did" if times >= _SLOW else None


class Paced:
    """A model's run times that also update its pace.

    Args:
        times: the run times to learn.
        pace: updated with each run.
        profile_s: expected seconds of a run of so many units, by the catalog's profile.
    """

    def __init__(self, times: RunTimes, pace: Pace, profile_s: Callable[[float], float]) -> None:
        self._times = times
        self._pace = pace
        self._profile_s = profile_s
        self.run_s = times.run_s

    def observe_run(self, units: float, run_s: float) -> None:
        """Learn from one run; see ``RunTimes``."""
        self._times.observe_run(units, run_s)
        self._pace.observe(run_s, self._profile_s(units))
