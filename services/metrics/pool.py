"""What the pool has loaded and evicted, and what of its budget is taken."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from runners.pool import Pool, Slot
from services.metrics.factory import MetricFactory


class PoolMetrics:
    """Metrics of the pool of one gateway process.

    Args:
        registry: where they are registered.
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
        self._seen: dict[str, tuple[Slot, dict[str, int]]] = {}
        self._shown: set[tuple[str, str]] = set()

    def loaded(self, model: str, load_s: float) -> None:
        """A model was loaded."""
        self._load_seconds.labels(model).observe(load_s)

    def measure(self, pool: Pool) -> None:
        """Bring everything up to date."""
        shown: set[tuple[str, str]] = set()
        for name, slot in pool.slots.items():
            self._count(name, slot)
            taken = slot.footprint.resident_bytes if slot.inner is not None else 0
            self._resident.labels(name, slot.device).set(taken)
            shown.add((name, slot.device))
        for name, device in self._shown - shown:  # a reload has removed it
            self._resident.labels(name, device).set(0)
        self._shown = shown
        for device in dict.fromkeys(slot.device for slot in pool.slots.values()):
            self._used.labels(device).set(pool.used_bytes(device))
        for device, budget in pool.budgets.items():
            self._budget.labels(device).set(budget)

    def _count(self, name: str, slot: Slot) -> None:
        """Add what a slot has counted since the last look; a reload's fresh slot begins at 0."""
        known, before = self._seen.get(name, (slot, {}))
        before = before if known is slot else {}
        now = {
            "loads": slot.loads,
            "evictions": slot.evictions,
            "hits": slot.hits,
            "misses": slot.misses,
        }
        self._seen[name] = slot, now
        for what, counter in (
            ("loads", self._loads.labels(name)),
            ("evictions", self._evictions.labels(name)),
            ("hits", self._requests.labels(name, "hit")),
            ("misses", self._requests.labels(name, "miss")),
        ):
            counter.inc(now[what] - before.get(what, 0))
