"""The memory budget: what is used, which model fits, and which ones make room for it.

The budget is what this *process* may take: interpreter, libraries, scratch memory and models
together, because that is what a container's limit counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from runners.pool.eviction import Order, by_worth, victims
from runners.pool.memory import Memory
from runners.pool.slot import CPU, Roster, Slot, State

HEADROOM = 0.03  # kept free, so that a load on demand need not wait for an eviction
_MIB = 1024**2


class Budget:
    """The memory account of one pool.

    Args:
        limits: bytes by device; a device without one is not limited.
        roster: the pool's models.
        memory: this process's memory.
        order: who goes first when room is needed.
        worth: cost a second of not having a model.

    Attributes:
        weighs: whether models are evicted by worth, not by age alone.
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
        self.roster = roster
        self.memory = memory
        self._order = order
        self.weighs = order is by_worth
        self._worth = worth
        self._own: int | None = None

    def used_bytes(self, device: str = CPU) -> int:
        """Bytes that count against a device's budget now."""
        charged = _sum(self.roster.of(device, State.RESIDENT, State.CLOSING))
        resident = self.memory.resident_bytes() if device == CPU else 0
        return max(resident, charged)

    def over_bytes(self, device: str) -> int:
        """Used bytes beyond the budget without its headroom; may be negative."""
        return self.used_bytes(device) - int((1.0 - HEADROOM) * self.limits[device])

    def fits(self, slot: Slot, *, ahead: bool = False) -> bool:
        """Whether there is room for a model; loaded ahead of time it leaves some for others."""
        spare = HEADROOM * self.limits.get(slot.device, 0) if ahead else 0.0
        return slot.footprint.peak_bytes + spare <= self._free_bytes(slot.device)

    def never_fits(self, slot: Slot) -> str | None:
        """Return why a model can never be loaded; None when it may fit some time."""
        budget = self.limits.get(slot.device)
        if budget is None:
            return None
        own = self._own_bytes() if slot.device == CPU else 0
        pinned = _sum(
            other
            for other in self.roster.slots.values()
            if other.device == slot.device and other.pinned and other is not slot
        )
        need = slot.footprint.peak_bytes
        if need + own + pinned <= budget:
            return None
        return (
            f"can never be loaded: it needs {mib(need)}, and the memory budget of "
            f"{mib(budget)} holds {mib(own)} of the process itself and {mib(pinned)} of pinned "
            "models; raise gateway.memory_budget or unpin a model"
        )

    def victims_for(self, slot: Slot, *, least_gain: float = 0.0) -> tuple[str, ...] | None:
        """Choose who is evicted so that a model fits; None when those who may go do not suffice.

        Args:
            slot: the model.
            least_gain: how many times more worth it must be than its victims together.
        """
        need = slot.footprint.peak_bytes - self._free_bytes(slot.device)
        chosen = self.victims_on(slot.device, int(need))
        if chosen is None or not least_gain:
            return chosen
        lost = sum(self._worth(self.roster.slots[name]) for name in chosen)
        return chosen if self._worth(slot) > least_gain * lost else None

    def victims_on(self, device: str, need_bytes: int) -> tuple[str, ...] | None:
        """Choose who is evicted to free so much of a device; see ``eviction.victims``."""
        residents = [
            slot.as_resident(self._worth(slot))
            for slot in self.roster.slots.values()
            if slot.state is State.RESIDENT and slot.device == device
        ]
        return victims(residents, need_bytes, self._order)

    def loses_by(self, slot: Slot) -> bool:
        """Whether loading a model now would evict models that are worth more together."""
        if not self.weighs or self.fits(slot):
            return False
        return self.victims_for(slot, least_gain=1.0) is None

    def _own_bytes(self) -> int:
        """The least the process was ever seen to take beside its models.

        It takes more while it serves (scratch memory, what leaks, what models touch after their
        load), but that may go again, and a model is refused for good only for what cannot.
        """
        if not any(self.roster.of(CPU, State.LOADING, State.CLOSING)):
            loaded = _sum(self.roster.of(CPU, State.RESIDENT))
            own = max(self.memory.resident_bytes() - loaded, 0)
            self._own = own if self._own is None else min(self._own, own)
        return self._own or 0

    def _free_bytes(self, device: str) -> float:
        budget = self.limits.get(device)
        if budget is None:
            return float("inf")
        reserved = sum(slot.footprint.peak_bytes for slot in self.roster.of(device, State.LOADING))
        return budget - self.used_bytes(device) - reserved


def mib(size_bytes: int) -> str:
    """Write a size for people."""
    return f"{size_bytes / _MIB:.0f} MiB"


def _sum(slots: Iterable[Slot]) -> int:
    return sum(slot.footprint.resident_bytes for slot in slots)
