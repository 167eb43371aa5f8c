"""A histogram that observes many values at once, and bucket bounds for seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from prometheus_client import Histogram

SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Bounds from a small model's run to a long generation."""


class BatchHistogram(Histogram):
    """A ``Histogram`` with ``observe_all``."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe many values, the same as ``observe`` for each, with one update a bucket.

        It adds to the fields of its base class as ``observe`` does, since prometheus_client offers
        no such call; a test compares the two.
        """
        self._raise_if_not_observable()
        counts = Counter(bisect_left(self._upper_bounds, value) for value in values)
        self._sum.inc(sum(values))
        for index, count in counts.items():
            self._buckets[index].inc(count)
