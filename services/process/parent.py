"""A worker ends when the process that started it does.

BentoML's supervisor ends its workers on SIGTERM, but one that is killed outright (SIGKILL, out of
memory) leaves them behind: they keep the port, and the next server shares it with them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have Linux kill this process when its parent dies; elsewhere nothing changes.

    At once, as the parent was: a worker that drained would keep the port from the next server. A
    supervisor that is told to end (SIGTERM) ends its workers in order before it goes.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)
