"""Metrics of one registry: made in a line each; histograms take many values at once."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as CounterOf
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""From a small model's run to a long generation."""


class BatchHistogram(Histogram):
    """A ``Histogram`` with ``observe_all``."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe many values, the same as ``observe`` for each, with one update a bucket.

        It adds to the fields of its base class as ``observe`` does, since prometheus_client offers
        no such call; a test compares the two.
        """
        self._raise_if_not_observable()
        counts = CounterOf(bisect_left(self._upper_bounds, value) for value in values)
        self._sum.inc(sum(values))
        for index, count in counts.items():
            self._buckets[index].inc(count)


class MetricFactory:
    """Makes the metrics of one registry; the names of labels are given as one text.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, documentation: str, labels: str = "") -> Counter:
        """A counter with these labels."""
        return Counter(name, documentation, labels.split(), registry=self._registry)

    def gauge(
        self, name: str, documentation: str, labels: str = "", *, mode: Any = "livesum"
    ) -> Gauge:
        """A gauge; ``mode`` is prometheus_client's way to add up the workers of a gateway."""
        return Gauge(
            name, documentation, labels.split(), registry=self._registry, multiprocess_mode=mode
        )

    def seconds(self, name: str, documentation: str, labels: str = "") -> BatchHistogram:
        """A histogram of seconds."""
        return self.histogram(name, documentation, labels, buckets=_SECONDS)

    def histogram(
        self, name: str, documentation: str, labels: str = "", *, buckets: Sequence[float]
    ) -> BatchHistogram:
        """A histogram with these upper bounds."""
        return BatchHistogram(
            name, documentation, labels.split(), buckets=buckets, registry=self._registry
        )
