"""Prometheus metrics of the batch API, with bounded labels."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry

from services.metrics.factory import MetricFactory

_STATUSES = (
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling",
    "cancelled",
)  # fmt: skip


class BatchMetrics:
    """Every metric of the batch API of one process.

    The gauges describe the database, which replicas share: aggregate them by ``max``, not ``sum``.

    Args:
        registry: the registry; tests pass their own.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        new = MetricFactory(registry)
        self.rows = new.counter(
            "turnout_bulk_rows_total",
            "Rows of batches that got their result here, by whether they succeeded.",
            "status",
        )
        self.running = new.gauge("turnout_bulk_running_rows", "Rows of batches that run now.")
        self.window = new.gauge(
            "turnout_bulk_window_rows", "Rows of batches that may run at once now."
        )
        self.pending = new.gauge(
            "turnout_bulk_pending_rows",
            "Rows of unfinished batches without a result, in the shared database.",
            mode="livemostrecent",
        )
        self.jobs = new.gauge(
            "turnout_bulk_jobs",
            "Batches by status, in the shared database.",
            "status",
            mode="livemostrecent",
        )

    def finished(self, completed: int, failed: int) -> None:
        """Count rows with a result."""
        self.rows.labels("completed").inc(completed)
        self.rows.labels("failed").inc(failed)

    def counted(self, jobs: Mapping[str, int], pending: int) -> None:
        """Set the counts of the database."""
        self.pending.set(pending)
        for status in _STATUSES:
            self.jobs.labels(status).set(jobs.get(status, 0))
