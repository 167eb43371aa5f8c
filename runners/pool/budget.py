"""What the models may take of the machine: what is used, what fits, and who goes for whom.

The budget is what this *process* may take: interpreter, libraries, scratch memory and models
together, because that is what a container's limit counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from runners.pool.eviction import Order, by_worth, victims
from runners.pool.memory import Memory
from runners.pool.roster import Roster
from runners.pool.slot import CPU, Slot, State

HEADROOM = 0.03  # kept free, so that a load on demand need not wait for an eviction
_MIB = 1024**2


class Budget:
    """The accounts of one pool.

    ``weighs`` says whether models are weighed by worth at all, or go by age alone.

    Args:
        limits: bytes by device; a device without one is not limited.
        roster: the pool's models.
        memory: this process's memory.
        order: who goes first when room is needed.
        worth: what it costs, a second, not to have a model.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        roster: Roster,
        memory: Memory,
        order: Order,
        worth: Callable[[Slot], float],
    ) -> None:
        self.limits = dict(limits)
        self._roster = roster
        self._memory = memory
        self._order = order
        self.weighs = order is by_worth
        self._worth = worth
        self._own: int | None = None

    def used_bytes(self, device: str = CPU) -> int:
        """What counts against a device's budget now."""
        charged = _sum(self._roster.of(device, State.RESIDENT, State.CLOSING))
        resident = self._memory.resident_bytes() if device == CPU else 0
        return max(resident, charged)

    def over_bytes(self, device: str) -> int:
        """By how much what is used exceeds the budget without its headroom; may be negative."""
        return self.used_bytes(device) - int((1.0 - HEADROOM) * self.limits[device])

    def fits(self, slot: Slot, *, ahead: bool = False) -> bool:
        """Whether there is room for a model; loaded ahead of time it leaves some for others."""
        spare = HEADROOM * self.limits.get(slot.device, 0) if ahead else 0.0
        return slot.footprint.peak_bytes + spare <= self._free_bytes(slot.device)

    def never_fits(self, slot: Slot) -> str | None:
        """Why a model can never be loaded; None when it may fit one day."""
        budget = self.limits.get(slot.device)
        if budget is None:
            return None
        own = self._own_bytes() if slot.device == CPU else 0
        pinned = _sum(
            one
            for one in self._roster.slots.values()
            if one.device == slot.device and one.pinned and one is not slot
        )
        need = slot.footprint.peak_bytes
        if need + own + pinned <= budget:
            return None
        return (
            f"can never be loaded: it needs {mib(need)}, and the memory budget of "
            f"{mib(budget)} holds {mib(own)} of the process itself and {mib(pinned)} of pinned "
            "models; raise gateway.memory_budget or unpin a model"
        )

    def who_goes_for(self, slot: Slot, *, least_gain: float = 0.0) -> tuple[str, ...] | None:
        """Who is evicted so that a model fits; None when those who may go do not suffice.

        Args:
            slot: the model.
            least_gain: how many times more worth it must be than those that go, together.
        """
        need = slot.footprint.peak_bytes - self._free_bytes(slot.device)
        going = self.who_goes(slot.device, int(need))
        if going is None or not least_gain:
            return going
        lost = sum(self._worth(self._roster.slots[name]) for name in going)
        return going if self._worth(slot) > least_gain * lost else None

    def who_goes(self, device: str, need_bytes: int) -> tuple[str, ...] | None:
        """Who is evicted to free so much of a device; see ``eviction.victims``."""
        residents = [
            one.as_resident(self._worth(one))
            for one in self._roster.slots.values()
            if one.state is State.RESIDENT and one.device == device
        ]
        return victims(residents, need_bytes, self._order)

    def _own_bytes(self) -> int:
        """The least the process was ever seen to take beside its models.

        It takes more while it serves (scratch memory, what leaks, what models touch after their
        load), but that may go again, and a model is refused for good only for what cannot.
        """
        if not any(self._roster.of(CPU, State.LOADING, State.CLOSING)):
            loaded = _sum(self._roster.of(CPU, State.RESIDENT))
            own = max(self._memory.resident_bytes() - loaded, 0)
            self._own = own if self._own is None else min(self._own, own)
        return self._own or 0

    def _free_bytes(self, device: str) -> float:
        budget = self.limits.get(device)
        if budget is None:
            return float("inf")
        reserved = sum(one.footprint.peak_bytes for one in self._roster.of(device, State.LOADING))
        return budget - self.used_bytes(device) - reserved


def mib(size_bytes: int) -> str:
    """A size as people read it."""
    return f"{size_bytes / _MIB:.0f} MiB"


def _sum(slots: Iterable[Slot]) -> int:
    return sum(slot.footprint.resident_bytes for slot in slots)
