"""The cost of a load: seconds and resident memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runners.active import ActiveEngine

if TYPE_CHECKING:
    from collections.abc import Callable


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class LoadMeter:
    """Measure one load, from the meter's construction to ``finish``.

    Args:
        engine: the engine's name in the catalog.
        clock: monotonic seconds.
    """

    def __init__(self, engine: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._start_s = clock()
        self._start_bytes = resident_bytes()

    def finish(
        self,
        requested: str,
        provider: str,
        *,
        precision: str = "float32",
        reason: str | None = None,
    ) -> ActiveEngine:
        """Return the running engine and the load's cost; memory includes concurrent loads."""
        return ActiveEngine(
            engine=self._engine,
            requested=requested,
            provider=provider,
            precision=precision,
            reason=reason,
            memory_bytes=max(resident_bytes() - self._start_bytes, 0),
            load_s=self._clock() - self._start_s,
        )
