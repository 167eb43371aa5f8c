"""Counting many ended requests at once: one update a metric and label set, not one a request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import Histogram

from turnout.catalog import split
from turnout.types import Decision, Outcome

if TYPE_CHECKING:
    from services.metrics.metrics import Metrics

Ended: TypeAlias = tuple[Decision, Outcome, bool, float, bool | None]
_Labels: TypeAlias = tuple[str, ...]


class Tally:
    """Adds batches of ended requests to the metrics.

    Args:
        metrics: what is counted into.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def add(self, batch: Sequence[Ended]) -> None:
        """Count every request of the batch."""
        metrics = self._metrics
        requests: Counter[_Labels] = Counter()
        decisions: Counter[_Labels] = Counter()
        deadlines: Counter[_Labels] = Counter()
        predictions: Counter[_Labels] = Counter()
        tokens: Counter[_Labels] = Counter()
        cost: defaultdict[str, float] = defaultdict(float)
        seconds: defaultdict[_Labels, list[float]] = defaultdict(list)
        first: defaultdict[_Labels, list[float]] = defaultdict(list)
        queue: defaultdict[str, list[float]] = defaultdict(list)
        run: defaultdict[str, list[float]] = defaultdict(list)
        rows: defaultdict[str, list[float]] = defaultdict(list)
        for decision, outcome, held, cost_usd, within in batch:
            route, latency_class, model = decision.route, decision.latency_class, outcome.model
            decisions[route, decision.model, latency_class, decision.rule] += 1
            requests[route, model, latency_class, outcome.status] += 1
            if outcome.status != "ok":
                continue
            seconds[route, latency_class].append(outcome.total_s)
            queue[model].append(outcome.queue_s)
            run[model].append(outcome.run_s)
            deadlines[route, latency_class, "true" if held else "false"] += 1
            cost[model] += cost_usd
            if within is not None:
                predictions[model, "true" if within else "false"] += 1
            if outcome.output_tokens:
                first[model, latency_class].append(outcome.first_s)
                tokens[model, "input"] += outcome.input_tokens
                tokens[model, "output"] += outcome.output_tokens
                tokens[model, "cached"] += outcome.cached_tokens
            else:
                rows[model].append(float(outcome.batch))
        for counter, counts in (
            (metrics.requests, requests),
            (metrics.decisions, decisions),
            (metrics.deadlines, deadlines),
            (metrics.predictions, predictions),
            (metrics.tokens, tokens),
        ):
            for labels, count in counts.items():
                counter.labels(*labels).inc(count)
        for model, usd in cost.items():
            metrics.cost.labels(model).inc(usd)
        for labels, values in seconds.items():
            observe_all(metrics.request_seconds.labels(*labels), values)
        for labels, values in first.items():
            observe_all(metrics.first_seconds.labels(*labels), values)
        self._add_versions(batch, [model for model in run if "@" in model])
        for histogram, groups in (
            (metrics.queue_seconds, queue),
            (metrics.run_seconds, run),
            (metrics.batch_rows, rows),
        ):
            for model, values in groups.items():
                observe_all(histogram.labels(model), values)

    def _add_versions(self, batch: Sequence[Ended], models: Sequence[str]) -> None:
        """The answers of models with versions, by version."""
        for model in models:
            took = [o.total_s for _, o, *_ in batch if o.model == model and o.status == "ok"]
            observe_all(self._metrics.versions.seconds.labels(*split(model)), took)


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe many values, the same as ``histogram.observe`` for each.

    prometheus_client offers no such call; this adds to the same fields as its ``observe`` does,
    once a bucket. The tests compare the two.
    """
    bounds = histogram._upper_bounds
    counts = Counter(bisect_left(bounds, value) for value in values)
    histogram._sum.inc(sum(values))
    for index, count in counts.items():
        histogram._buckets[index].inc(count)
