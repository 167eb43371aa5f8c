"""Many models in one process under one memory budget: loaded on demand, evicted by worth."""

from runners.pool.pool import Pool
from runners.pool.slot import Footprint, Slot, State

__all__ = ["Footprint", "Pool", "Slot", "State"]
