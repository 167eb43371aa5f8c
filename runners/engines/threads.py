"""Thread settings for engines in a process that shares its cores."""

from __future__ import annotations

import os
import sys
import threading

_NICEST = 10


def yield_cores(nice: int) -> None:
    """Lower the priority of this thread and of the threads it will start.

    Threads inherit the niceness, so an engine's threads have that of the thread that loads it.
    Linux only: elsewhere niceness belongs to the whole process.

    Args:
        nice: 0 (the event loop's priority) to 10; kernel shares of 1024 down to 110.
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
