"""Generate open-loop HTTP load: scheduled arrivals, latency from the scheduled instant.

A closed loop waits for answers before it sends more, so it slows down with the server and hides
the tail. Here request ``i`` is due at ``i / rate`` whatever happened before, and its latency
counts from then. The run fails when it could not offer what it was asked to.

Source: Tene, "How NOT to measure latency" (coordinated omission).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

_SPIN_S = 0.0005


@dataclass(slots=True)
class Result:
    """The result of a run; latencies in milliseconds from the scheduled instant.

    Attributes:
        offered: requests a second asked for.
        sent: requests a second that left in time.
        achieved: good answers a second.
        statuses: answers by HTTP status; 0 is a connection that broke.
        late_share: requests that left more than 10 ms after their instant.
        within: good answers a second that came within the deadline.
        without_retry_after: refusals (429, 503) that did not say when to come again.
    """

    offered: float
    seconds: float
    sent: float = 0.0
    achieved: float = 0.0
    p50_ms: float = math.nan
    p95_ms: float = math.nan
    p99_ms: float = math.nan
    max_ms: float = math.nan
    late_share: float = 0.0
    within: float = 0.0
    without_retry_after: int = 0
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def kept_up(self) -> bool:
        """Return whether every request was sent and succeeded at the requested rate."""
        return self.achieved >= 0.995 * self.offered

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"kept_up": self.kept_up}


def http_request(url: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """Return the bytes of one POST of ``body``."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time in flight."""

    def __init__(self, finished: Callable[[_Connection, int], None]) -> None:
        self._finished = finished
        self._buffer = b""
        self._need = -1
        self._status = 0
        self._chunked = False
        self.retry_after = False
        self.due_s = 0.0
        self.busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, due_s: float) -> None:
        """Send one request that was due at ``due_s``."""
        self.busy, self.due_s = True, due_s
        if self.transport is not None:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read an answer of a declared length or in chunks."""
        self._buffer += data
        if self._need < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            self._status = int(head[9:12])
            self.retry_after = b"\r\nretry-after:" in head
            self._chunked = b"\r\ntransfer-encoding: chunked" in head
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._need = end + 4 + length
        if self._chunked and self._buffer.endswith(b"\r\n0\r\n\r\n"):
            self._need = len(self._buffer)
        elif self._chunked:
            return
        if len(self._buffer) >= self._need:
            self._buffer = self._buffer[self._need :]
            self._need = -1
            self.busy = False
            self._finished(self, self._status)

    def close(self) -> None:
        """Close the connection; a request in flight does not count."""
        if self.transport is not None:
            self.busy = False
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record status 0 for a request in flight when the connection breaks."""
        del exc
        self.transport = None
        if self.busy:
            self.busy = False
            self._finished(self, 0)


async def run(
    url: str,
    requests: list[bytes],
    rate: float,
    seconds: float,
    connections: int = 64,
    deadline_s: float = math.inf,
) -> Result:
    """Offer ``rate`` requests a second for ``seconds``, taking ``requests`` in turn."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    waiting: list[tuple[bytes, float]] = []
    free: deque[_Connection] = deque()
    late = head = silent = 0

    def finished(connection: _Connection, status: int) -> None:
        nonlocal head, silent
        statuses[status] += 1
        if 200 <= status < 300:
            latencies.append(time.perf_counter() - connection.due_s)
        elif status in (429, 503) and not connection.retry_after:
            silent += 1
        if connection.transport is None:
            return
        if head < len(waiting):
            request, due_s = waiting[head]
            head += 1
            connection.send(request, due_s)
        else:
            free.append(connection)

    made = []
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: _Connection(finished), host, port)
        free.append(connection)
        made.append(connection)
    total = int(rate * seconds)
    start_s = time.perf_counter()
    sent = 0
    while sent < total:
        now_s = time.perf_counter()
        due = min(int((now_s - start_s) * rate) + 1, total)
        for index in range(sent, due):
            due_s = start_s + index / rate
            late += now_s - due_s > 0.010
            request = requests[index % len(requests)]
            while free and free[0].transport is None:
                free.popleft()  # closed by the server while it was idle
            if free:
                free.popleft().send(request, due_s)
            else:
                waiting.append((request, due_s))
        sent = due
        await asyncio.sleep(max(start_s + sent / rate - time.perf_counter(), _SPIN_S))
    sent_s = time.perf_counter() - start_s
    await _settled(statuses, total)
    took_s = time.perf_counter() - start_s
    for connection in made:
        connection.close()
    result = _summary(rate, seconds, total, sent_s, took_s, statuses, sorted(latencies), late)
    result.within = sum(latency <= deadline_s for latency in latencies) / took_s
    result.without_retry_after = silent
    return result


async def _settled(statuses: Counter[int], total: int) -> None:
    """Wait until every request has ended, 15 s at most."""
    give_up_s = time.perf_counter() + 15.0
    while statuses.total() < total and time.perf_counter() < give_up_s:
        await asyncio.sleep(0.01)


def _summary(
    rate: float,
    seconds: float,
    total: int,
    sent_s: float,
    took_s: float,
    statuses: Counter[int],
    latencies: list[float],
    late: int,
) -> Result:
    def at(share: float) -> float:
        return latencies[min(int(share * len(latencies)), len(latencies) - 1)] * 1e3

    unanswered = total - sum(statuses.values())
    counted = {str(status): count for status, count in sorted(statuses.items())}
    if unanswered:
        counted["unanswered"] = unanswered
    result = Result(rate, seconds, total / sent_s, len(latencies) / took_s, statuses=counted)
    result.late_share = late / max(total, 1)
    if latencies:
        result.p50_ms, result.p95_ms, result.p99_ms = at(0.50), at(0.95), at(0.99)
        result.max_ms = latencies[-1] * 1e3
    return result
