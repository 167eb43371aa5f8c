"""Finds stop strings, also across the borders of tokens."""

from __future__ import annotations


class StopStrings:
    """Passes text on until one of the stop strings is complete.

    Text that may yet become a stop string is held back. The result does not depend on how the
    text is cut into pieces: the stop string that is complete first ends it, the longest of those
    that are complete at the same character.

    Args:
        stops: the strings; none may be empty.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Return the text to show now. Sets ``stopped`` when a stop string is complete."""
        if not self._stops:
            return text
        if self.stopped:
            return ""
        self._held += text
        start = self._first()
        if start is not None:
            self.stopped = True
            shown, self._held = self._held[:start], ""
            return shown
        keep = self._possible_start()
        shown, self._held = (
            self._held[: len(self._held) - keep],
            self._held[len(self._held) - keep :],
        )
        return shown

    def flush(self) -> str:
        """Return the text held back; no further text follows."""
        shown, self._held = self._held, ""
        return shown

    def _first(self) -> int | None:
        """Return the start of the stop string that is complete first; None for none."""
        ends = [
            (start + len(stop), start)
            for stop in self._stops
            if (start := self._held.find(stop)) >= 0
        ]
        return min(ends)[1] if ends else None

    def _possible_start(self) -> int:
        """Return the length of the longest end of the held text that starts a stop string."""
        longest = min(len(self._held), max(len(stop) for stop in self._stops) - 1)
        return next(
            (
                size
                for size in range(longest, 0, -1)
                if any(stop.startswith(self._held[-size:]) for stop in self._stops)
            ),
            0,
        )
