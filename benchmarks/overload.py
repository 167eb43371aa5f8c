"""Measure a server under three times its capacity: goodput, refusals and recovery."""

from __future__ import annotations

import threading
import time
from typing import Any

import uvloop

from benchmarks.open_loop import run
from benchmarks.servers import Server

DEADLINE_S = 0.1
_CONNECTIONS = 512
_AFTER_S = 2.0


class _Memory(threading.Thread):
    """Samples the resident memory of a server once a second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._done = threading.Event()
        self.seen: list[int] = []

    def run(self) -> None:
        while not self._done.wait(1.0):
            self.seen.append(self._server.memory_bytes())

    def stop(self) -> list[int]:
        self._done.set()
        self.join()
        return self.seen


def overload(
    server: Server, url: str, batch: list[bytes], knee: float, seconds: float = 30.0
) -> dict[str, Any]:
    """Offer three times ``knee``, then a quarter of it.

    Args:
        server: the server.
        url: what is called.
        batch: requests, taken in turn.
        knee: good answers a second that it holds.
        seconds: how long the overload lasts.

    Returns:
        ``goodput``: answers a second within 100 ms of their intended instant; the rest as named.
    """
    watch = _Memory(server)
    watch.start()
    before = uvloop.run(run(url, batch, knee / 4, 5.0, _CONNECTIONS, DEADLINE_S))
    began_s = time.perf_counter()
    during = uvloop.run(run(url, batch, 3 * knee, seconds, _CONNECTIONS, DEADLINE_S))
    took_s = time.perf_counter() - began_s
    first = uvloop.run(run(url, batch, knee / 4, _AFTER_S, _CONNECTIONS, DEADLINE_S))
    then = uvloop.run(run(url, batch, knee / 4, 5.0, _CONNECTIONS, DEADLINE_S))
    memory = watch.stop()
    half = 5 + int(took_s) // 2
    return {
        "knee": knee,
        "offered": 3 * knee,
        "seconds": seconds,
        "ended_after_s": round(took_s, 2),
        "goodput": round(during.within, 1),
        "goodput_of_knee": round(during.within / knee, 3),
        "p50_ms": during.p50_ms,
        "p99_ms": during.p99_ms,
        "statuses": during.statuses,
        "refusals_without_retry_after": during.without_retry_after,
        "memory_mb": [round(memory[at] / 2**20) for at in (2, half, len(memory) - 1)],
        "p99_before_ms": before.p99_ms,
        "p99_first_2_s_after_ms": first.p99_ms,
        "p99_then_ms": then.p99_ms,
        "statuses_after": [first.statuses, then.statuses],
    }
