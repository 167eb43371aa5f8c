"""The resident memory of this process, and returning freed memory to the system."""

from __future__ import annotations

import ctypes
from typing import Protocol

from runners.engines.load_cost import resident_bytes

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_GIVE_BACK = {_M_MMAP_THRESHOLD: 1024**2, _M_TRIM_THRESHOLD: 256 * 1024}  # see mallopt(3)


class Memory(Protocol):
    """The memory of one process; tests supply their own."""

    def resident_bytes(self) -> int:
        """Resident memory now; 0 where the system does not tell."""
        ...

    def trim(self) -> None:
        """Return freed memory to the system, so that it counts as freed."""
        ...


class ProcessMemory:
    """This process's memory. Trimming needs glibc; elsewhere it does nothing.

    glibc raises the size from which a block is mapped by itself, up to 32 MiB, each time a larger
    one is freed, and keeps freed memory at the top of each thread's arena: of a fleet whose models
    were evicted a third stayed taken. With the size fixed, what a model's weights took goes back
    when they are freed.
    """

    def __init__(self) -> None:
        try:
            libc = ctypes.CDLL(None)
            self._trim = libc.malloc_trim
            for option, size in _GIVE_BACK.items():
                libc.mallopt(option, size)
        except (AttributeError, OSError):
            self._trim = None

    def resident_bytes(self) -> int:
        """See ``Memory.resident_bytes``."""
        return resident_bytes()

    def trim(self) -> None:
        """See ``Memory.trim``; takes some milliseconds: not for the event loop."""
        if self._trim is not None:
            self._trim(0)


def settle(memory: Memory) -> int:
    """Trim, then return resident memory in bytes; takes milliseconds: not for the event loop."""
    memory.trim()
    return memory.resident_bytes()
