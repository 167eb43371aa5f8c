"""Rows cut into portions: what one worker takes at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.batch_api.leases import Portion

_PORTION_BYTES = 1024 * 1024


@dataclass(slots=True)
class Cutter:
    """Cuts rows into portions of at most ``portion_rows`` rows and about ``_PORTION_BYTES``.

    Attributes:
        rows: rows so far.
        ready_bytes: size of what ``take`` would return.
    """

    batch_id: str
    portion_rows: int
    rows: int = 0
    ready_bytes: int = 0
    _lines: list[bytes] = field(default_factory=list)
    _bytes: int = 0
    _ready: list[Portion] = field(default_factory=list)

    def add(self, line: bytes) -> None:
        """Add the next row."""
        self._lines.append(line)
        self._bytes += len(line)
        self.rows += 1
        if len(self._lines) >= self.portion_rows or self._bytes >= _PORTION_BYTES:
            self._close()

    def take(self, *, everything: bool = False) -> list[Portion]:
        """What is ready; at the end of the file, everything."""
        if everything:
            self._close()
        ready, self._ready, self.ready_bytes = self._ready, [], 0
        return ready

    def _close(self) -> None:
        if self._lines:
            number = len(self._lines)
            first = self.rows - number
            self._ready.append(Portion(self.batch_id, first, number, b"\n".join(self._lines)))
            self.ready_bytes += self._bytes
            self._lines, self._bytes = [], 0
