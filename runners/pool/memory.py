"""What this process takes of the machine's memory, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
from typing import Protocol

from runners.engines.loading import resident_bytes


class Memory(Protocol):
    """The memory of one process; a test brings its own."""

    def resident_bytes(self) -> int:
        """Resident memory now; 0 where the system does not tell."""
        ...

    def trim(self) -> None:
        """Give memory that was freed back to the system, so that it counts as freed."""
        ...


class ProcessMemory:
    """This process's memory. Trimming needs glibc; elsewhere it does nothing."""

    def __init__(self) -> None:
        try:
            self._trim = ctypes.CDLL(None).malloc_trim
        except (AttributeError, OSError):
            self._trim = None

    def resident_bytes(self) -> int:
        """See ``Memory.resident_bytes``."""
        return resident_bytes()

    def trim(self) -> None:
        """See ``Memory.trim``; takes some milliseconds: not for the event loop."""
        if self._trim is not None:
            self._trim(0)
