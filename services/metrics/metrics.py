"""Prometheus metrics of the gateway, with bounded labels.

In a server with several workers prometheus_client's multiprocess mode adds them up.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry

from routing.rollout.canary import CanaryTest, Part
from runners.pool import Pool
from runners.protocol import ActiveEngine, BackendLoad
from services.metrics.factory import MetricFactory
from services.metrics.pool import PoolMetrics
from services.metrics.requests import RequestMetrics
from services.metrics.versions import VersionMetrics
from turnout.catalog import Canary, Catalog
from turnout.types import Decision, Outcome


class Metrics:
    """Every metric of one gateway process.

    Args:
        registry: the registry; tests pass their own.

    Attributes:
        versions: metrics of the versions of models.
        profile_ratio, profile_renewed: of the stored latency profiles, by model.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        new = MetricFactory(registry)
        self.registry = registry
        self.versions = VersionMetrics(registry)
        self._requests = RequestMetrics(registry, self.versions)
        self.pipeline_seconds = self._requests.pipeline_seconds
        self._pool = PoolMetrics(registry)
        self._queue_depth = new.gauge("turnout_queue_depth", "Pieces of work waiting now.", "model")
        self._running = new.gauge("turnout_running", "Pieces of work in the engine now.", "model")
        self._up = new.gauge(
            "turnout_model_up",
            "1 when the model serves; labels say what really runs.",
            "model engine provider precision",
            mode="livemax",
        )
        self._fallback = new.gauge(
            "turnout_model_fallback",
            "1 when another provider runs than the one asked for.",
            "model requested provider",
            mode="livemax",
        )
        self.profile_ratio = new.gauge(
            "turnout_profile_ratio",
            "Learned time of a run by the one stored for this host; renewed beyond a factor of 2.",
            "model",
            mode="livemax",
        )
        self.profile_renewed = new.counter(
            "turnout_profile_renewed_total",
            "Stored latency profiles written anew from what was served.",
            "model",
        )
        self._steering = new.gauge(
            "turnout_control",
            "State of a route's controllers: prices, debts and corrections, by name.",
            "route knob",
            mode="mostrecent",
        )
        self._feedback = new.counter(
            "turnout_feedback_total", "Answers that were scored.", "route model"
        )
        self._feedback_score = new.counter(
            "turnout_feedback_score_total",
            "Sum of scores; over turnout_feedback_total it is their mean.",
            "route model",
        )
        self._shadow = new.counter(
            "turnout_shadow_decisions_total",
            "Decisions made again by the shadow router, by whether it chose the same model.",
            "route agrees",
        )
        self._canary_share = new.gauge(
            "turnout_canary_share",
            "Share of chat requests that the canary router decides; 0 once it was found worse.",
            mode="livemin",
        )

    def ended(
        self, decision: Decision, outcome: Outcome, held: bool, cost_usd: float, within: bool | None
    ) -> None:
        """Count an answer or a failure; exposed after the next ``flush``.

        Args:
            decision: the decision behind it.
            outcome: the request's outcome.
            held: whether it held its deadline.
            cost_usd: its expected cost.
            within: whether it came within the p95 predicted for the chosen model; None when
                another one answered.
        """
        self._requests.ended(decision, outcome, held, cost_usd, within)

    def turned_away(self, code: str) -> None:
        """Count a request that ended before a model was chosen; exposed after ``flush``."""
        self._requests.turned_away(code)

    def flush(self) -> None:
        """Update every metric with the finished requests."""
        self._requests.flush()

    def loaded(self, model: str, load: BackendLoad) -> None:
        """Set a model's load gauges."""
        self._queue_depth.labels(model).set(load.queued)
        self._running.labels(model).set(load.running)

    def steered(self, route: str, state: Mapping[str, float]) -> None:
        """Set the present state of a route's controllers."""
        for knob, value in state.items():
            self._steering.labels(route, knob).set(value)

    def scored(self, route: str, model: str, score: float) -> None:
        """Count feedback."""
        self._feedback.labels(route, model).inc()
        self._feedback_score.labels(route, model).inc(score)

    def shadowed(self, route: str, *, agrees: bool) -> None:
        """Count a shadow decision."""
        self._shadow.labels(route, "true" if agrees else "false").inc()

    def on_trial(self, share: float) -> None:
        """Set the canary router's share."""
        self._canary_share.set(share)

    def tried(self, name: str, model: str, part: Part, *, failed: bool, late: bool) -> None:
        """Count a request of a trial by the version drawn for it."""
        self.versions.tried(name, model, part, failed=failed, late=late)

    def rolled_out(self, catalog: Catalog, trials: Mapping[str, tuple[Canary, CanaryTest]]) -> None:
        """Set each version's share, and the trials' verdicts."""
        self.versions.measure(catalog, trials)

    def pooled(self, pool: Pool) -> None:
        """Set the gauges of the pool: loaded models, and their use of the budget."""
        self._pool.measure(pool)

    def came_up(self, model: str, active: ActiveEngine) -> None:
        """Set that a model serves, and the engine that runs it."""
        self._up.labels(model, active.engine, active.provider, active.precision).set(1)
        self._fallback.labels(model, active.requested, active.provider).set(
            active.requested != active.provider
        )
        if active.load_s > 0:  # remote models are loaded elsewhere
            self._pool.loaded(model, active.load_s)

    def went(self, model: str, active: ActiveEngine) -> None:
        """Set that a model is no longer loaded."""
        self._up.labels(model, active.engine, active.provider, active.precision).set(0)
