"""What the gateway measures, as Prometheus metrics with bounded labels.

In a server with several workers prometheus_client's multiprocess mode adds them up. Counting one
answer in every metric costs more than deciding it, so ended requests are collected and counted
together, a few times a second and before each scrape.
"""

from __future__ import annotations

from collections import Counter as TallyOf
from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from routing.rollout.canary import CanaryTest, Part
from runners.pool import Pool
from runners.protocol import ActiveEngine, BackendLoad
from services.metrics.buckets import SECONDS
from services.metrics.pool import PoolMetrics
from services.metrics.tally import Ended, Tally
from services.metrics.versions import VersionMetrics
from turnout.catalog import Canary, Catalog
from turnout.types import Decision, Outcome

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of one gateway process.

    Args:
        registry: where they are registered; a test brings its own.
        counts_requests: whether requests are counted here. A model in a process of its own beside
            a gateway hears each request again; the count is the gateway's.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, counts_requests: bool = True
    ) -> None:
        self.registry = registry
        self._counts_requests = counts_requests
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
            buckets=SECONDS,
            registry=registry,
        )
        self.first_seconds = Histogram(
            "turnout_first_token_seconds",
            "Arrival to the first token of a generation.",
            ("model", "latency_class"),
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "turnout_queue_seconds",
            "Wait before the run.",
            ("model",),
            buckets=SECONDS,
            registry=registry,
        )
        self.run_seconds = Histogram(
            "turnout_run_seconds",
            "The run of the batch a request was in.",
            ("model",),
            buckets=SECONDS,
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
            "turnout_tokens_total",
            "Tokens of prompts (input), those of them read before (cached), and written (output).",
            ("model", "kind"),
            registry=registry,
        )
        self.pipeline_seconds = Histogram(
            "turnout_pipeline_seconds",
            "Arrival of a pipeline's request to its answer, by how it ended.",
            ("pipeline", "latency_class", "status"),
            buckets=SECONDS,
            registry=registry,
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
        self.steering = Gauge(
            "turnout_control",
            "State of a route's controllers: prices, debts and corrections, by name.",
            ("route", "knob"),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.feedback = Counter(
            "turnout_feedback_total", "Answers that were scored.", ("route", "model"),
            registry=registry,
        )  # fmt: skip
        self.feedback_score = Counter(
            "turnout_feedback_score_total",
            "Sum of scores; over turnout_feedback_total it is their mean.",
            ("route", "model"),
            registry=registry,
        )
        self.fallback = Gauge(
            "turnout_model_fallback",
            "1 when another provider runs than the one asked for.",
            ("model", "requested", "provider"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.profile_ratio = Gauge(
            "turnout_profile_ratio",
            "Learned time of a run by the one stored for this host; renewed beyond a factor of 2.",
            ("model",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.profile_renewed = Counter(
            "turnout_profile_renewed_total",
            "Stored latency profiles written anew from what was served.",
            ("model",),
            registry=registry,
        )
        self.shadow = Counter(
            "turnout_shadow_decisions_total",
            "Decisions made again by the shadow router, by whether it chose the same model.",
            ("route", "agrees"),
            registry=registry,
        )
        self.canary_share = Gauge(
            "turnout_canary_share",
            "Share of chat requests that the canary router decides; 0 once it was found worse.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.versions = VersionMetrics(registry)
        self._pool = PoolMetrics(registry)
        self._pending: list[Ended] = []
        self._turned_away: TallyOf[str] = TallyOf()
        self._tally = Tally(self)

    def decided(self, decision: Decision) -> None:
        """Count a decision that is not run (see ``ended`` for the others)."""
        self.decisions.labels(
            decision.route, decision.model, decision.latency_class, decision.rule
        ).inc()

    def ended(
        self, decision: Decision, outcome: Outcome, held: bool, cost_usd: float, within: bool | None
    ) -> None:
        """Count an answer, or its failure; shown after the next ``flush``.

        Args:
            decision: the decision behind it.
            outcome: what happened.
            held: whether it held its deadline.
            cost_usd: its expected cost.
            within: whether it came within the p95 predicted for the chosen model; None when
                another one answered.
        """
        if self._counts_requests:
            self._pending.append((decision, outcome, held, cost_usd, within))

    def turned_away(self, code: str) -> None:
        """Count a request that ended before a model was chosen; shown after the next ``flush``."""
        if self._counts_requests:
            self._turned_away[code] += 1

    def flush(self) -> None:
        """Bring every metric up to date with what has ended."""
        for code, count in self._turned_away.items():
            self.refused.labels(code).inc(count)
        self._turned_away.clear()
        pending, self._pending = self._pending, []
        if pending:
            self._tally.add(pending)

    def loaded(self, model: str, load: BackendLoad) -> None:
        """Set a model's load gauges."""
        self.queue_depth.labels(model).set(load.queued)
        self.running.labels(model).set(load.running)

    def steered(self, route: str, state: Mapping[str, float]) -> None:
        """Show the present state of a route's controllers."""
        for knob, value in state.items():
            self.steering.labels(route, knob).set(value)

    def scored(self, route: str, model: str, score: float) -> None:
        """Count feedback."""
        self.feedback.labels(route, model).inc()
        self.feedback_score.labels(route, model).inc(score)

    def shadowed(self, route: str, *, agrees: bool) -> None:
        """Count a shadow decision."""
        self.shadow.labels(route, "true" if agrees else "false").inc()

    def on_trial(self, share: float) -> None:
        """Show the canary router's share."""
        self.canary_share.set(share)

    def tried(self, name: str, model: str, part: Part, *, failed: bool, late: bool) -> None:
        """Count a request of a trial by the version that was drawn for it."""
        self.versions.tried(name, model, part, failed=failed, late=late)

    def rolled_out(self, catalog: Catalog, trials: Mapping[str, tuple[Canary, CanaryTest]]) -> None:
        """Show each version's share, and how the trials stand."""
        self.versions.measure(catalog, trials)

    def pooled(self, pool: Pool) -> None:
        """Show what is loaded, and what of the budget it takes."""
        self._pool.measure(pool)

    def came_up(self, model: str, active: ActiveEngine) -> None:
        """Say that a model serves, and what really runs."""
        self.up.labels(model, active.engine, active.provider, active.precision).set(1)
        self.fallback.labels(model, active.requested, active.provider).set(
            active.requested != active.provider
        )
        if active.load_s > 0:  # what runs elsewhere was loaded there
            self._pool.loaded(model, active.load_s)

    def went(self, model: str, active: ActiveEngine) -> None:
        """Say that a model is no longer loaded."""
        self.up.labels(model, active.engine, active.provider, active.precision).set(0)
