"""Metrics of the pool: loads, evictions, and use of the memory budget."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from runners.pool import Pool, Slot
from services.metrics.factory import MetricFactory


class PoolMetrics:
    """Metrics of the pool of one gateway process.

    Args:
        registry: the registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        new = MetricFactory(registry)
        self._loads = new.counter("turnout_model_loads_total", "Loads that succeeded.", "model")
        self._evictions = new.counter(
            "turnout_model_evictions_total", "Times a model made room for another.", "model"
        )
        self._requests = new.counter(
            "turnout_model_residency_total",
            "Requests by whether they found their model loaded (hit) or waited for it (miss).",
            "model found",
        )
        self._load_seconds = new.seconds(
            "turnout_model_load_seconds", "Time of a load, once there was room for it.", "model"
        )
        self._resident = new.gauge(
            "turnout_model_resident_bytes",
            "What a model is believed to take while it is loaded; 0 while it is not.",
            "model device",
        )
        self._used = new.gauge(
            "turnout_pool_used_bytes", "What counts against a device's memory budget now.", "device"
        )
        self._budget = new.gauge(
            "turnout_pool_budget_bytes", "A device's memory budget; absent without one.", "device"
        )
        self._counted: dict[str, tuple[Slot, dict[str, int]]] = {}
        self._exposed: set[tuple[str, str]] = set()

    def loaded(self, model: str, load_s: float) -> None:
        """Record the load of a model."""
        self._load_seconds.labels(model).observe(load_s)

    def measure(self, pool: Pool) -> None:
        """Update every metric."""
        exposed: set[tuple[str, str]] = set()
        for name, slot in pool.slots.items():
            self._count(name, slot)
            resident_bytes = slot.footprint.resident_bytes if slot.inner is not None else 0
            self._resident.labels(name, slot.device).set(resident_bytes)
            exposed.add((name, slot.device))
        for name, device in self._exposed - exposed:  # a reload has removed it
            self._resident.labels(name, device).set(0)
        self._exposed = exposed
        for device in dict.fromkeys(slot.device for slot in pool.slots.values()):
            self._used.labels(device).set(pool.used_bytes(device))
        for device, budget in pool.budgets.items():
            self._budget.labels(device).set(budget)

    def _count(self, name: str, slot: Slot) -> None:
        """Add a slot's counts since the last update; a reload's fresh slot begins at 0."""
        counted_slot, before = self._counted.get(name, (slot, {}))
        before = before if counted_slot is slot else {}
        now = {
            "loads": slot.loads,
            "evictions": slot.evictions,
            "hits": slot.hits,
            "misses": slot.misses,
        }
        self._counted[name] = slot, now
        for event, counter in (
            ("loads", self._loads.labels(name)),
            ("evictions", self._evictions.labels(name)),
            ("hits", self._requests.labels(name, "hit")),
            ("misses", self._requests.labels(name, "miss")),
        ):
            counter.inc(now[event] - before.get(event, 0))
