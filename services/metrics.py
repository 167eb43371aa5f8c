"""What the gateway measures, as Prometheus metrics with bounded labels.

In a server with several workers prometheus_client's multiprocess mode adds them up. Children
are cached: looking one up by labels costs more than counting does.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from runners.protocol import Active, Load
from turnout.types import Decision, Outcome

_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of one gateway process.

    Args:
        registry: where they are registered; a test brings its own.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.requests = Counter(
            "turnout_requests_total",
            "Requests by who answered and how it ended.",
            ("route", "model", "latency_class", "status"),
            registry=registry,
        )
        self.refused = Counter(
            "turnout_refused_total",
            "Requests that ended before a model was chosen.",
            ("code",),
            registry=registry,
        )
        self.decisions = Counter(
            "turnout_decisions_total",
            "Decisions by the rule that decided.",
            ("route", "model", "latency_class", "rule"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "turnout_request_seconds",
            "Arrival to the answer (generation: to the last token).",
            ("route", "latency_class"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_seconds = Histogram(
            "turnout_first_token_seconds",
            "Arrival to the first token of a generation.",
            ("model", "latency_class"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "turnout_queue_seconds",
            "Wait before the run.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.run_seconds = Histogram(
            "turnout_run_seconds",
            "The run of the batch a request was in.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "turnout_batch_rows",
            "Rows of the batch a request was in.",
            ("model",),
            buckets=_ROWS,
            registry=registry,
        )
        self.deadlines = Counter(
            "turnout_deadlines_total",
            "Answers by whether they held their deadline.",
            ("route", "latency_class", "held"),
            registry=registry,
        )
        self.predictions = Counter(
            "turnout_predictions_total",
            "Answers by whether they came within the predicted p95; 95 % should.",
            ("model", "within_p95"),
            registry=registry,
        )
        self.cost = Counter(
            "turnout_cost_usd_total", "Expected cost of answers.", ("model",), registry=registry
        )
        self.tokens = Counter(
            "turnout_tokens_total", "Tokens read and written.", ("model", "kind"), registry=registry
        )
        self.queue_depth = Gauge(
            "turnout_queue_depth",
            "Pieces of work waiting now.",
            ("model",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.running = Gauge(
            "turnout_running",
            "Pieces of work in the engine now.",
            ("model",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.up = Gauge(
            "turnout_model_up",
            "1 when the model serves; labels say what really runs.",
            ("model", "engine", "provider", "precision"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._request = cache(self.requests.labels)
        self._decision = cache(self.decisions.labels)
        self._seconds = cache(self.request_seconds.labels)
        self._first = cache(self.first_seconds.labels)
        self._queue = cache(self.queue_seconds.labels)
        self._run = cache(self.run_seconds.labels)
        self._batch = cache(self.batch_rows.labels)
        self._deadline = cache(self.deadlines.labels)
        self._prediction = cache(self.predictions.labels)
        self._cost = cache(self.cost.labels)
        self._tokens = cache(self.tokens.labels)

    def decided(self, decision: Decision) -> None:
        """Count a decision."""
        self._decision(decision.route, decision.model, decision.latency_class, decision.rule).inc()

    def ended(self, decision: Decision, outcome: Outcome, held: bool, cost_usd: float) -> None:
        """Count an answer, or its failure."""
        route, model, latency_class = decision.route, outcome.model, decision.latency_class
        self._request(route, model, latency_class, outcome.status).inc()
        if outcome.status != "ok":
            return
        self._seconds(route, latency_class).observe(outcome.total_s)
        self._queue(model).observe(outcome.queue_s)
        self._run(model).observe(outcome.run_s)
        self._deadline(route, latency_class, "true" if held else "false").inc()
        if cost_usd:
            self._cost(model).inc(cost_usd)
        if outcome.output_tokens:
            self._first(model, latency_class).observe(outcome.first_s)
            self._tokens(model, "input").inc(outcome.input_tokens)
            self._tokens(model, "output").inc(outcome.output_tokens)
        else:
            self._batch(model).observe(outcome.batch)

    def predicted(self, model: str, within: bool) -> None:
        """Count an answer against the p95 that was predicted for it."""
        self._prediction(model, "true" if within else "false").inc()

    def loaded(self, model: str, load: Load) -> None:
        """Set a model's load gauges."""
        self.queue_depth.labels(model).set(load.queued)
        self.running.labels(model).set(load.running)

    def came_up(self, model: str, active: Active) -> None:
        """Say that a model serves, and what really runs."""
        self.up.labels(model, active.engine, active.provider, active.precision).set(1)
