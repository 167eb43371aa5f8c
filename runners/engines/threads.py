"""Thread settings for engines in a process that shares its cores."""

from __future__ import annotations

import os
import sys
import threading

_NICEST = 10


def yield_cores(nice: int) -> None:
    """Let the kernel prefer others to this thread and to those it will start.

    Threads inherit it, so an engine loaded by a thread that yields computes in threads that yield.
    Linux only: elsewhere niceness belongs to the whole process.

    Args:
        nice: 0 (as urgent as the event loop) to 10; weighs 1024 against 110 of the kernel's shares.
    """
    if nice > 0 and sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(nice, _NICEST))


def sleep_when_idle() -> None:
    """Let OpenMP's threads sleep at a barrier instead of spinning; call before importing torch.

    On two cores with other work running, spinning threads make a decode step 5 times slower
    (1.1 against 5.5 tokens/s, SmolLM2-135M). Does nothing once torch is imported, or where
    OMP_WAIT_POLICY is already set.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
