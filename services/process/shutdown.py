"""Leaving on SIGTERM without losing what was accepted.

uvicorn closes idle keep-alive connections as soon as it is told to stop, and a request that is on
its way on one of them is lost. So the gateway says that it leaves before it does: from the signal
on it is not ready, new work is refused with 503 and ``Retry-After``, every answer carries
``connection: close``, and only ``GRACE_S`` later is uvicorn told. What runs is finished; uvicorn
waits for it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

GRACE_S = 1.0


def on_sigterm(drain: Callable[[], None], grace_s: float = GRACE_S) -> None:
    """Call ``drain`` on SIGTERM, and what SIGTERM did so far after ``grace_s``.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    stops = signal.getsignal(signal.SIGTERM)

    def told(number: int, frame: FrameType | None) -> None:
        drain()
        if callable(stops):
            loop.call_soon_threadsafe(loop.call_later, grace_s, stops, number, frame)

    if callable(stops):
        signal.signal(signal.SIGTERM, told)
