"""The text of ``/metrics``: every worker's metrics added up, or this process's alone."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from services.metrics_folder import lives


def exposition() -> tuple[str, bytes]:
    """Content type and body of the Prometheus text format."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        _forget_the_dead(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return CONTENT_TYPE_LATEST, generate_latest(registry)
    return CONTENT_TYPE_LATEST, generate_latest(REGISTRY)


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of workers that were killed; what they counted stays counted."""
    for file in folder.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not lives(int(pid)):
            mark_process_dead(int(pid), str(folder))
