"""Access log: one line a request, written in batches by a thread, so that no request waits.

    2026-11-24T03:40:00.123Z POST /v2/models/fraud/infer 200 1.84 ms fraud-small req-9f…

``TURNOUT_ACCESS_LOG`` names a file, ``-`` is standard output, empty or absent is none: at
thousands of requests a second the metrics and the decision log say more.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from services.http.messages import HttpRequest, Reply

_FLUSH_S = 0.25


class AccessLog:
    """Collects lines and writes them every ``_FLUSH_S``.

    Args:
        where: a file, or ``-`` for standard output.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._lines: deque[str] = deque()
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._writer.start()

    def add(self, http: HttpRequest, reply: Reply, took_s: float) -> None:
        """Add the line of one answered request; it is written later."""
        self._lines.append(_line(http, reply, took_s))

    def close(self) -> None:
        """Write the remaining lines and stop."""
        self._stopping.set()
        self._writer.join()

    def _write(self) -> None:
        if self._where == "-":
            self._drain(sys.stdout)
            return
        path = Path(self._where)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            self._drain(file)

    def _drain(self, out: IO[str]) -> None:
        while True:
            stopping = self._stopping.wait(_FLUSH_S)
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            out.write("".join(lines))  # at once, so that the lines of several workers don't mix
            out.flush()
            if stopping:
                return


def _line(http: HttpRequest, reply: Reply, took_s: float) -> str:
    when = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = dict(reply.headers)
    model = headers.get(b"x-turnout-model", b"-").decode()
    decision = headers.get(b"x-turnout-decision", b"-").decode()
    path = http.path.encode("unicode_escape").decode()
    return f"{when} {http.method} {path} {reply.status} {took_s * 1e3:.2f} ms {model} {decision}\n"
