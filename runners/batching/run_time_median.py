"""The median time of a run, robust against interrupted runs. Pure.

A mean follows a run that another process interrupted for ten milliseconds; on a busy machine a
model of thirty microseconds then counts as slow and is sent to a thread, where waiting for the
interpreter's lock makes it slow indeed. A median stays.
"""

from __future__ import annotations

_STEP = 1.1


class RunTimeMedian:
    """Median seconds of a run, by the number of rows to the nearest power of two.

    A median is tracked by a step up after a longer run and a step down after a shorter one.
    """

    def __init__(self) -> None:
        self._median_s: dict[int, float] = {}

    def run_s(self, rows: int) -> float | None:
        """Return the median seconds of a run of about so many rows; None before the first."""
        return self._median_s.get(rows.bit_length())

    def observe_run(self, rows: int, run_s: float) -> None:
        """Learn from one run."""
        size = rows.bit_length()
        median_s = self._median_s.get(size)
        if median_s is None:
            self._median_s[size] = run_s
        else:
            self._median_s[size] = median_s * _STEP if run_s > median_s else median_s / _STEP
