"""A circuit breaker: a model that keeps failing gets no requests for a while, then a trial.

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
        self._failures = 0
        self._opened_s: float | None = None
        self._reason = ""

    def open_reason(self, now_s: float) -> str | None:
        """Return why no request may pass now; None when requests may."""
        if self._opened_s is None or now_s - self._opened_s >= self._rest_s:
            return None
        return f"failed {self._failures} times in a row, resting ({self._reason})"

    def succeeded(self) -> None:
        """Record a run that succeeded: close the breaker."""
        self._failures = 0
        self._opened_s = None

    def failed(self, now_s: float, reason: str) -> None:
        """Record a run that failed; opens the breaker, or opens it again, at the limit."""
        self._failures += 1
        self._reason = reason
        if self._failures >= self._limit:
            self._opened_s = now_s
