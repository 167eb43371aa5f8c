"""Record when each part of a start ended."""

from __future__ import annotations

import time


class Phases:
    """The instants of one start, on the system's monotonic clock.

    Args:
        started_s: the time of the program's first line. A parent that reads the same clock before
            it starts the process can tell the interpreter's share.
    """

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self._ended_s: dict[str, float] = {}

    def over(self, name: str) -> None:
        """Record that a part ends now; parts run concurrently, so they may overlap."""
        self._ended_s[name] = time.monotonic()

    def as_json(self) -> dict[str, float]:
        """Return ``started_s`` and the milliseconds from it to the end of each part."""
        ended_ms = {
            f"{name}_ms": round((at_s - self.started_s) * 1e3, 1)
            for name, at_s in self._ended_s.items()
        }
        return {"started_s": self.started_s, **ended_ms}
