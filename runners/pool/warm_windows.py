"""Windows of the day in which a model is kept loaded. Pure: the minute of the day is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` up to ``end``, in minutes after midnight UTC; may pass midnight."""

    start: int
    end: int

    @classmethod
    def read(cls, text: str) -> Window:
        """Of ``HH:MM-HH:MM``."""
        start, end = text.split("-")
        return cls(_minutes(start), _minutes(end))

    def holds(self, minute: int) -> bool:
        """Whether a minute of the day, 0 to 1439, lies in it."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def any_holds(windows: Sequence[Window], minute: int) -> bool:
    """Whether a minute of the day lies in one of them."""
    return any(window.holds(minute) for window in windows)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)
