"""Models in trouble: what hangs is left alone, what fails rests, what leaks is loaded afresh."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from runners.pool.leaks import Leaks
from runners.pool.memory import Memory
from runners.pool.roster import Roster
from runners.pool.slot import CPU, Slot, State
from runners.protocol import ActiveEngine, TensorBackend, TextBackend

logger = logging.getLogger("turnout.pool")

_LEAK_BYTES, _LEAST_LEAK = 64 * 1024**2, 8 * 1024**2
_RETRY_S, _MAX_RETRY_S, _MAX_DOUBLINGS = 10.0, 600.0, 10
_CAME_BACK = 0.4  # of what a suspect seems to have gained
_KIB, _MIB = 1024, 1024**2


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
        went: Callable[[str, ActiveEngine], None],
    ) -> None:
        self._roster = roster
        self._memory = memory
        self._clock = clock
        self._went = went
        self._leaks = Leaks(_least_leak_bytes(budget_bytes))
        self._seen: _Seen | None = None

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

    def note_growth(self) -> None:
        """Learn from the growth since the last look that no load or close explains."""
        seen = self._seen
        self.look()
        now = self._seen
        if seen is None or now is None:
            return
        runs = {name: count - seen.used.get(name, count) for name, count in now.used.items()}
        ran = {name: count for name, count in runs.items() if count > 0}
        gained = now.unexplained_bytes - seen.unexplained_bytes
        self._leaks.observe(ran, gained, now.moved_bytes - seen.moved_bytes)

    def look(self) -> None:
        """Count growth from here: memory was given back, or a model has gone."""
        self._seen = None
        if any(self._roster.of(CPU, State.LOADING, State.CLOSING)):
            return
        here = [slot for slot in self._roster if slot.device == CPU]
        explained = sum(one.footprint.resident_bytes for one in here if one.inner is not None)
        self._seen = _Seen(
            self._memory.resident_bytes() - explained,
            sum((one.loads + one.evictions) * one.footprint.resident_bytes for one in here),
            {slot.name: slot.hits + slot.misses for slot in self._roster.slots.values()},
        )

    async def look_for_leaks(
        self,
        close: Callable[[Slot], Awaitable[None]],
        settled_bytes: Callable[[], Awaitable[int]],
    ) -> None:
        """Load a model afresh whose runs seem to make the process grow.

        Whether they do is seen by what comes back: if it is little more than the model's own size,
        it was another one.

        Args:
            close: frees a model; the next request for it loads it.
            settled_bytes: resident memory once what was freed is given back.
        """
        slots = self._roster.slots
        suspect = self._leaks.suspect(
            {name: one.footprint.resident_bytes for name, one in slots.items() if one.inner}
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
        self.look()


@dataclass(frozen=True, slots=True)
class _Seen:
    """The process at one moment.

    Attributes:
        unexplained_bytes: what it takes beside its models.
        moved_bytes: what was loaded and evicted so far.
        used: requests so far, by model.
    """

    unexplained_bytes: int
    moved_bytes: int
    used: Mapping[str, int]


def _least_leak_bytes(budget: int | None) -> int:
    """What a model must gain to be called leaking; under a budget little is much."""
    return _LEAK_BYTES if budget is None else min(_LEAK_BYTES, max(int(0.03 * budget), _LEAST_LEAK))
