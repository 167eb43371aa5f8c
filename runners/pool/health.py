"""Models in trouble: what hangs is left alone, what fails rests, what leaks is loaded afresh."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from runners.pool.leaks import Leaks
from runners.pool.memory import Memory
from runners.pool.roster import Roster
from runners.pool.slot import CPU, Slot, State
from runners.protocol import Active, TensorBackend, TextBackend

logger = logging.getLogger("turnout.pool")

_LEAK_BYTES, _LEAST_LEAK = 64 * 1024**2, 8 * 1024**2
_RETRY_S, _MAX_RETRY_S, _MAX_DOUBLINGS = 10.0, 600.0, 10
_MIB = 1024**2


class Health:
    """Watches the models of one pool.

    Args:
        roster: the pool's models.
        memory: this process's memory.
        budget_bytes: of this process; None when it has none.
        clock: monotonic seconds.
        went: told of each model that is no longer loaded.
    """

    def __init__(
        self,
        roster: Roster,
        memory: Memory,
        budget_bytes: int | None,
        clock: Callable[[], float],
        went: Callable[[str, Active], None],
    ) -> None:
        self._roster = roster
        self._memory = memory
        self._clock = clock
        self._went = went
        self._leaks = Leaks(_least_leak_bytes(budget_bytes))
        self._seen: tuple[int, dict[str, int]] | None = None

    def give_up(self, backend: TensorBackend | TextBackend, reason: str) -> None:
        """Leave a loaded model as it is, because it hangs; a later request loads it afresh.

        What it took stays taken: the thread that never came back still uses it.

        Args:
            backend: what hangs; a model of its name that has replaced it is none of it.
            reason: why, for people.
        """
        slot = next((one for one in self._roster if one.inner is backend), None)
        if slot is None:
            return
        slot.inner, slot.state = None, State.COLD
        self.quarantine(slot, reason)
        logger.error("model %s is quarantined: %s", slot.name, reason)
        if backend.active is not None:
            self._went(slot.name, backend.active)

    def quarantine(self, slot: Slot, reason: str) -> None:
        """Leave a model alone for a while, longer each time it fails before it has been well."""
        now_s = self._clock()
        if now_s - slot.retry_s > _MAX_RETRY_S:
            slot.failures = 0
        slot.failures += 1
        slot.why_not = reason
        slot.retry_s = now_s + min(
            _RETRY_S * 2 ** min(slot.failures - 1, _MAX_DOUBLINGS), _MAX_RETRY_S
        )

    async def look_for_leaks(
        self, close: Callable[[Slot], Awaitable[None]], *, moving: bool
    ) -> None:
        """Load a model afresh whose runs make the process grow.

        Args:
            close: frees a model.
            moving: whether something loads now, which explains growth.
        """
        unexplained = self._memory.resident_bytes() - sum(
            slot.footprint.resident_bytes
            for slot in self._roster.of(CPU, State.RESIDENT, State.CLOSING)
        )
        used = {name: slot.hits + slot.misses for name, slot in self._roster.slots.items()}
        before, self._seen = self._seen, (unexplained, used)
        if before is None or moving:
            return
        runs = {name: count - before[1].get(name, 0) for name, count in used.items()}
        self._leaks.observe(
            {name: count for name, count in runs.items() if count > 0}, unexplained - before[0]
        )
        for name, slot in list(self._roster.slots.items()):
            a_run = self._leaks.leaking(name, slot.footprint.resident_bytes)
            if a_run is None or slot.inner is None:
                continue
            slot.trouble = f"grew by about {a_run / _MIB:.2g} MiB a run; was loaded afresh"
            logger.error("model %s %s", name, slot.trouble)
            self._leaks.forget(name)
            self._seen = None
            await close(slot)


def _least_leak_bytes(budget: int | None) -> int:
    """What a model must gain to be called leaking; under a budget little is much."""
    return _LEAK_BYTES if budget is None else min(_LEAK_BYTES, max(int(0.03 * budget), _LEAST_LEAK))
