"""How a serving process ends: gracefully on SIGTERM, at once when its parent dies.

uvicorn closes idle keep-alive connections as soon as SIGTERM reaches it, and a request that is on
its way on one of them is lost. So the gateway announces its end first: from the signal on it is not
ready, new work is refused with 503 and ``Retry-After``, every answer carries ``connection: close``,
and uvicorn receives the signal only ``GRACE_S`` later. uvicorn waits for the requests that run.

BentoML's supervisor ends its workers on SIGTERM, but a supervisor that is killed outright (SIGKILL,
out of memory) leaves them behind: they keep the port, and the next server shares it with them.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

GRACE_S = 1.0
_PR_SET_PDEATHSIG = 1


def on_sigterm(drain: Callable[[], None], grace_s: float = GRACE_S) -> None:
    """Call ``drain`` on SIGTERM, and the handler that SIGTERM had so far after ``grace_s``.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return

    def handle(number: int, frame: FrameType | None) -> None:
        drain()
        loop.call_soon_threadsafe(loop.call_later, grace_s, stop, number, frame)

    signal.signal(signal.SIGTERM, handle)


def end_with_parent() -> None:
    """Have Linux kill this process when its parent dies; does nothing elsewhere.

    Kills at once: a worker that drained would keep the port from the next server. A supervisor that
    receives SIGTERM ends its workers in order before it goes.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
