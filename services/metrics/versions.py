"""Metrics of models' versions and of their canaries."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from routing.rollout.canary import CanaryTest, Part
from services.metrics.factory import MetricFactory
from turnout.catalog import Canary, Catalog, split

_VERDICTS = {"worse": -1, "watching": 0, "sound": 1}


class VersionMetrics:
    """Metrics of versions, each by model and version.

    Args:
        registry: the registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        new = MetricFactory(registry)
        self.seconds = new.seconds(
            "turnout_version_seconds",
            "Arrival to the answer (generation: to the last token), by the version that answered.",
            "model version",
        )
        self._share = new.gauge(
            "turnout_version_share",
            "Share of the requests for a model that each version answers.",
            "model version",
            mode="mostrecent",
        )
        self._tried = new.counter(
            "turnout_canary_requests_total",
            "Requests of a trial by the version drawn, and how that version did.",
            "model version part ended",
        )
        self._verdict = new.gauge(
            "turnout_canary_verdict",
            "Of a canary: 1 shown to be no worse, 0 nothing shown yet, -1 worse and taken back.",
            "model version",
            mode="livemin",
        )
        self._taken_back = new.counter(
            "turnout_canary_taken_back_total",
            "Canaries that were taken back by themselves, by what was worse.",
            "model version why",
        )
        self._verdicts: set[tuple[str, str]] = set()
        self._back: set[tuple[str, str]] = set()

    def tried(self, name: str, model: str, part: Part, *, failed: bool, late: bool) -> None:
        """Count a finished request of a trial."""
        ended = "failed" if failed else "late" if late else "ok"
        self._tried.labels(name, split(model)[1], part, ended).inc()

    def measure(self, catalog: Catalog, trials: Mapping[str, tuple[Canary, CanaryTest]]) -> None:
        """Update shares and verdicts."""
        for name, versioned in catalog.versioned.items():
            canary = versioned.canary
            for version in versioned.versions:
                share = 0.0
                if canary is not None and version == canary.version:
                    share = canary.share
                elif version == versioned.production:
                    share = 1.0 - (canary.share if canary else 0.0)
                self._share.labels(name, version).set(share)
        verdicts: set[tuple[str, str]] = set()
        for name, (canary, trial) in trials.items():
            self._verdict.labels(name, canary.version).set(_VERDICTS[trial.verdict])
            verdicts.add((name, canary.version))
        for name, version in self._verdicts - verdicts - self._back:  # promoted, or ended
            self._verdict.labels(name, version).set(_VERDICTS["watching"])
        self._back -= verdicts
        self._verdicts = verdicts

    def taken_back(self, name: str, version: str, why: str) -> None:
        """Count a canary that was rolled back because it is worse."""
        self._taken_back.labels(name, version, why).inc()
        self._verdict.labels(name, version).set(_VERDICTS["worse"])
        self._back.add((name, version))
