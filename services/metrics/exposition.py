"""The text of ``/metrics``: the sum of every worker's metrics, or this process's alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from services.metrics.metrics_folder import lives


def exposition() -> tuple[str, bytes]:
    """Return content type and body of the Prometheus text format."""
    return CONTENT_TYPE_LATEST, generate_latest(_of_all_workers(REGISTRY))


def totals(registry: CollectorRegistry) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield every sample of every worker: name, labels, value.

    Args:
        registry: this process's registry, where there are no other workers.
    """
    for family in _of_all_workers(registry).collect():
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _of_all_workers(registry: CollectorRegistry) -> CollectorRegistry:
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return registry
    _forget_the_dead(Path(folder))
    together = CollectorRegistry()
    MultiProcessCollector(together)
    return together


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of killed workers; their counters stay."""
    for file in folder.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not lives(int(pid)):
            mark_process_dead(int(pid), str(folder))
