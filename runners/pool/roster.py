"""Every model of a pool: those the catalog has, and those on their way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from runners.pool.slot import Slot, State


@dataclass(slots=True)
class Roster:
    """The slots of a pool; iterating gives all of them.

    Attributes:
        slots: by name, those that may be asked for.
        retiring: those that left or were replaced, and count until they are closed.
    """

    slots: dict[str, Slot] = field(default_factory=dict)
    retiring: set[Slot] = field(default_factory=set)

    def __iter__(self) -> Iterator[Slot]:
        return iter((*self.slots.values(), *self.retiring))

    def add(self, slot: Slot) -> None:
        """Take a slot in; one of its name that is there already is on its way out."""
        old = self.slots.get(slot.name)
        if old is not None and old is not slot:
            self.retiring.add(old)
        self.slots[slot.name] = slot

    def remove(self, slot: Slot) -> None:
        """Send a slot on its way out."""
        if self.slots.get(slot.name) is slot:
            del self.slots[slot.name]
        self.retiring.add(slot)

    def holds(self, slot: Slot) -> bool:
        """Whether a slot is still of the pool."""
        return self.slots.get(slot.name) is slot or slot in self.retiring

    def of(self, device: str, *states: State) -> Iterator[Slot]:
        """Those of a device in one of these states."""
        return (slot for slot in self if slot.device == device and slot.state in states)
