"""When each part of a start was over."""

from __future__ import annotations

import time


class Phases:
    """Instants of one start, on the system's monotonic clock.

    Args:
        started_s: when the first line of the program ran. A parent that noted the same clock
            before it started the process knows what the interpreter took.
    """

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self._ended_s: dict[str, float] = {}

    def over(self, name: str) -> None:
        """Note that a part is over now; parts run side by side, so they may overlap."""
        self._ended_s[name] = time.monotonic()

    def as_json(self) -> dict[str, float]:
        """``started_s``, and milliseconds from it to the end of each part."""
        ended_ms = {
            f"{name}_ms": round((at_s - self.started_s) * 1e3, 1)
            for name, at_s in self._ended_s.items()
        }
        return {"started_s": self.started_s, **ended_ms}
