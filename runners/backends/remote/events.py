"""Server-sent events, as chat completions stream them. Pure."""

from __future__ import annotations

from collections.abc import Iterator


class EventLines:
    """Collects bytes and yields the data of each complete event.

    Source: WHATWG HTML, "Server-sent events", interpreting an event stream. Only ``data`` fields
    matter here; comments (keep-alives) and other fields are skipped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of the events that ``chunk`` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line.removeprefix(b"data:").removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()

    def flush(self) -> Iterator[bytes]:
        """Yield the data of a last event that no blank line ended."""
        yield from self.push(b"\n\n")
