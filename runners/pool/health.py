"""Models in trouble: a hung one is abandoned, a failing one quarantined, a leaking one reloaded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from runners.pool.leaks import Leaks
from runners.pool.memory import Memory
from runners.pool.slot import CPU, Roster, Slot, State
from runners.protocol import TensorBackend, TextBackend

logger = logging.getLogger("turnout.pool")

_LEAK_BYTES, _LEAST_LEAK = 64 * 1024**2, 8 * 1024**2
_RETRY_S, _MAX_RETRY_S, _MAX_DOUBLINGS = 10.0, 600.0, 10
_CAME_BACK = 0.4  # share of a suspect's estimated growth that must come back
_KIB, _MIB = 1024, 1024**2


class Health:
    """Watches the models of one pool.

    Args:
        roster: the pool's models.
        memory: this process's memory.
        budget_bytes: of this process; None when it has none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        roster: Roster,
        memory: Memory,
        budget_bytes: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._roster = roster
        self._memory = memory
        self._clock = clock
        self._leaks = Leaks(_least_leak_bytes(budget_bytes))
        self._snapshot: _Snapshot | None = None

    def give_up(self, backend: TensorBackend | TextBackend, reason: str) -> None:
        """Abandon a loaded model that hangs; a later request loads it afresh.

        Its memory stays taken: the thread that never came back still uses it.

        Args:
            backend: that hangs; a model that has replaced it under its name is not affected.
            reason: why, for people.
        """
        slot = next((slot for slot in self._roster if slot.inner is backend), None)
        if slot is None:
            return
        slot.inner, slot.state = None, State.COLD
        self.quarantine(slot, reason)
        logger.error("model %s is quarantined: %s", slot.name, reason)
        if backend.active is not None:
            self._roster.went(slot.name, backend.active)

    def quarantine(self, slot: Slot, reason: str) -> None:
        """Refuse a model for a while, longer each time it fails again before it has been well."""
        now_s = self._clock()
        if now_s - slot.retry_s > _MAX_RETRY_S:
            slot.failures = 0
        slot.failures += 1
        slot.why_not = reason
        slot.retry_s = now_s + min(
            _RETRY_S * 2 ** min(slot.failures - 1, _MAX_DOUBLINGS), _MAX_RETRY_S
        )

    def note_growth(self) -> None:
        """Learn from the growth since ``mark`` that no load or close explains."""
        before = self._snapshot
        self.mark()
        now = self._snapshot
        if before is None or now is None:
            return
        runs = {
            name: count - before.requests.get(name, count) for name, count in now.requests.items()
        }
        ran = {name: count for name, count in runs.items() if count > 0}
        gained = now.unexplained_bytes - before.unexplained_bytes
        self._leaks.observe(ran, gained, now.moved_bytes - before.moved_bytes)

    def mark(self) -> None:
        """Count growth from now on: memory was given back, or a model was closed."""
        self._snapshot = None
        if any(self._roster.of(CPU, State.LOADING, State.CLOSING)):
            return
        here = [slot for slot in self._roster if slot.device == CPU]
        explained = sum(slot.footprint.resident_bytes for slot in here if slot.inner is not None)
        self._snapshot = _Snapshot(
            self._memory.resident_bytes() - explained,
            sum((slot.loads + slot.evictions) * slot.footprint.resident_bytes for slot in here),
            {slot.name: slot.hits + slot.misses for slot in self._roster.slots.values()},
        )

    async def look_for_leaks(
        self,
        close: Callable[[Slot], Awaitable[None]],
        settled_bytes: Callable[[], Awaitable[int]],
    ) -> None:
        """Close a model whose runs seem to make the process grow, so that it is loaded afresh.

        The memory that comes back confirms it: when that is little more than the model's own
        size, another model leaks.

        Args:
            close: frees a model; the next request for it loads it.
            settled_bytes: returns resident memory once freed memory is given back.
        """
        slots = self._roster.slots
        suspect = self._leaks.suspect(
            {name: slot.footprint.resident_bytes for name, slot in slots.items() if slot.inner}
        )
        if suspect is None:
            return
        slot = slots[suspect.name]
        before = await settled_bytes()
        await close(slot)
        freed = before - await settled_bytes() - slot.footprint.resident_bytes
        if freed >= _CAME_BACK * suspect.gained_bytes:
            grew = f"grew by about {suspect.a_run_bytes / _KIB:.2g} KiB a run"
            slot.trouble = f"{grew}, to {freed / _MIB:.0f} MiB over its size; was loaded afresh"
            logger.error("model %s %s", slot.name, slot.trouble)
            self._leaks.start_over()
        else:
            logger.info("model %s was closed and opened, suspected of a leak", slot.name)
            self._leaks.clear(slot.name)
        self.mark()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The process at one moment.

    Attributes:
        unexplained_bytes: resident memory beside its models.
        moved_bytes: loaded and evicted so far.
        requests: so far, by model.
    """

    unexplained_bytes: int
    moved_bytes: int
    requests: Mapping[str, int]


def _least_leak_bytes(budget: int | None) -> int:
    """Growth from which a model counts as leaking; smaller under a small budget."""
    return _LEAK_BYTES if budget is None else min(_LEAK_BYTES, max(int(0.03 * budget), _LEAST_LEAK))
