"""Metrics of requests: collected as these end, counted together a few times a second.

Counting one answer in every metric costs more than deciding it; so ended requests wait for the
next ``flush`` in groups of equal labels, and each metric is updated once a group.
"""

from __future__ import annotations

from collections import Counter as CounterOf
from collections.abc import Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry

from services.metrics.factory import MetricFactory
from services.metrics.versions import VersionMetrics
from turnout.catalog import split
from turnout.types import Decision, Outcome

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_Labels: TypeAlias = tuple[str, str, str, str, str, str, bool, bool | None]
"""Route, chosen model, class, rule, answering model, status, and whether the deadline and the
predicted p95 were held."""


class RequestMetrics:
    """Metrics of the requests of one gateway process.

    Args:
        registry: the registry.
        versions: metrics of models with versions.
    """

    def __init__(self, registry: CollectorRegistry, versions: VersionMetrics) -> None:
        new = MetricFactory(registry)
        self._versions = versions
        self._pending: dict[_Labels, list[tuple[Outcome, float]]] = {}
        self._turned_away: CounterOf[str] = CounterOf()
        self._requests = new.counter(
            "turnout_requests_total",
            "Requests by who answered and how it ended.",
            "route model latency_class status",
        )
        self._refused = new.counter(
            "turnout_refused_total", "Requests that ended before a model was chosen.", "code"
        )
        self._decisions = new.counter(
            "turnout_decisions_total",
            "Decisions by the rule that decided.",
            "route model latency_class rule",
        )
        self._deadlines = new.counter(
            "turnout_deadlines_total",
            "Answers by whether they held their deadline.",
            "route latency_class held",
        )
        self._predictions = new.counter(
            "turnout_predictions_total",
            "Answers by whether they came within the predicted p95; 95 % should.",
            "model within_p95",
        )
        self._cost = new.counter("turnout_cost_usd_total", "Expected cost of answers.", "model")
        self._tokens = new.counter(
            "turnout_tokens_total",
            "Tokens of prompts (input), those of them read before (cached), and written (output).",
            "model kind",
        )
        self._request_seconds = new.seconds(
            "turnout_request_seconds",
            "Arrival to the answer (generation: to the last token).",
            "route latency_class",
        )
        self._first_seconds = new.seconds(
            "turnout_first_token_seconds",
            "Arrival to the first token of a generation.",
            "model latency_class",
        )
        self._queue_seconds = new.seconds("turnout_queue_seconds", "Wait before the run.", "model")
        self._run_seconds = new.seconds(
            "turnout_run_seconds", "The run of the batch a request was in.", "model"
        )
        self._batch_rows = new.histogram(
            "turnout_batch_rows", "Rows of the batch a request was in.", "model", buckets=_ROWS
        )
        self.pipeline_seconds = new.seconds(
            "turnout_pipeline_seconds",
            "Arrival of a pipeline's request to its answer, by how it ended.",
            "pipeline latency_class status",
        )

    def ended(
        self, decision: Decision, outcome: Outcome, held: bool, cost_usd: float, within: bool | None
    ) -> None:
        """Count a request that a model was chosen for; see ``Metrics.ended``."""
        labels = (
            decision.route, decision.model, decision.latency_class, decision.rule,
            outcome.model, outcome.status, held, within,
        )  # fmt: skip
        group = self._pending.get(labels)
        if group is None:
            group = self._pending[labels] = []
        group.append((outcome, cost_usd))

    def turned_away(self, code: str) -> None:
        """Count a request that ended before a model was chosen."""
        self._turned_away[code] += 1

    def flush(self) -> None:
        """Update every metric with the finished requests."""
        for code, count in self._turned_away.items():
            self._refused.labels(code).inc(count)
        self._turned_away.clear()
        pending, self._pending = self._pending, {}
        for labels, group in pending.items():
            self._count(labels, group)

    def _count(self, labels: _Labels, group: Sequence[tuple[Outcome, float]]) -> None:
        """Count requests of equal labels."""
        route, chosen, latency_class, rule, model, status, held, within = labels
        count = len(group)
        self._decisions.labels(route, chosen, latency_class, rule).inc(count)
        self._requests.labels(route, model, latency_class, status).inc(count)
        if status != "ok":
            return
        outcomes = [outcome for outcome, _ in group]
        total_s = [outcome.total_s for outcome in outcomes]
        self._request_seconds.labels(route, latency_class).observe_all(total_s)
        self._queue_seconds.labels(model).observe_all([outcome.queue_s for outcome in outcomes])
        self._run_seconds.labels(model).observe_all([outcome.run_s for outcome in outcomes])
        self._deadlines.labels(route, latency_class, "true" if held else "false").inc(count)
        self._cost.labels(model).inc(sum(cost_usd for _, cost_usd in group))
        if within is not None:
            self._predictions.labels(model, "true" if within else "false").inc(count)
        if "@" in model:
            self._versions.seconds.labels(*split(model)).observe_all(total_s)
        written = [outcome for outcome in outcomes if outcome.output_tokens]
        if written:
            self._count_tokens(model, latency_class, written)
        rows = [float(outcome.batch) for outcome in outcomes if not outcome.output_tokens]
        if rows:
            self._batch_rows.labels(model).observe_all(rows)

    def _count_tokens(self, model: str, latency_class: str, outcomes: Sequence[Outcome]) -> None:
        first_s = [outcome.first_s for outcome in outcomes]
        self._first_seconds.labels(model, latency_class).observe_all(first_s)
        for kind, tokens in (
            ("input", sum(outcome.input_tokens for outcome in outcomes)),
            ("output", sum(outcome.output_tokens for outcome in outcomes)),
            ("cached", sum(outcome.cached_tokens for outcome in outcomes)),
        ):
            self._tokens.labels(model, kind).inc(tokens)
