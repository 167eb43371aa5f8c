"""A circuit breaker: a model that keeps failing is left alone for a while, then tried once.

Pure: time is an argument. Source of the pattern: Nygard, Release It! (2007), "Circuit Breaker".
"""

from __future__ import annotations


class Breaker:
    """Opens after ``failures`` in a row, lets one trial through after ``rest_s``.

    Args:
        failures: consecutive failures that open it.
        rest_s: seconds it stays open before a trial.
    """

    def __init__(self, failures: int = 5, rest_s: float = 5.0) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._failed = 0
        self._opened_s: float | None = None
        self._why = ""

    def open_reason(self, now_s: float) -> str | None:
        """Why no request may pass now; None when one may."""
        if self._opened_s is None or now_s - self._opened_s >= self._rest_s:
            return None
        return f"failed {self._failed} times in a row, resting ({self._why})"

    def succeeded(self) -> None:
        """A run went well: close."""
        self._failed = 0
        self._opened_s = None

    def failed(self, now_s: float, why: str) -> None:
        """A run failed; opens (again) when it was one too many."""
        self._failed += 1
        self._why = why
        if self._failed >= self._limit:
            self._opened_s = now_s
