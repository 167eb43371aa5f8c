"""The schema of the decision log's lines, for writing them and for reading them back.

A field's name is its JSON key, the order of the fields is the order in the line. ``msgspec`` turns
an entry into plain values (``to_builtins``) and a line into an entry (``convert``). Keys that older
logs lack have defaults. Times are in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from turnout.types import Candidate, Decision, Outcome


@dataclass(slots=True)
class CandidateEntry:
    """A candidate and its prediction, as ``POST /v1/route`` shows them."""

    model: str
    quality: float
    p50_ms: float
    p95_ms: float
    cost_usd: float
    feasible: bool
    why_not: str | None

    @staticmethod
    def of(candidate: Candidate) -> CandidateEntry:
        """Return the entry of a candidate."""
        return CandidateEntry(*_shown(candidate))


@dataclass(slots=True)
class LoggedCandidate(CandidateEntry):
    """A candidate as logged: also its p99, whether it was out of service, and its propensity."""

    p99_ms: float
    broken: bool
    propensity: float

    @staticmethod
    def with_propensity(candidate: Candidate, propensity: float) -> LoggedCandidate:
        """Return the entry of a candidate that was chosen with this probability."""
        p99_ms = round(candidate.prediction.p99_s * 1e3, 4)
        return LoggedCandidate(*_shown(candidate), p99_ms, candidate.broken, propensity)


def _shown(candidate: Candidate) -> tuple[str, float, float, float, float, bool, str | None]:
    prediction = candidate.prediction
    return (
        candidate.model,
        round(prediction.quality, 6),
        round(prediction.p50_s * 1e3, 4),
        round(prediction.p95_s * 1e3, 4),
        prediction.cost_usd,
        candidate.feasible,
        candidate.why_not,
    )


@dataclass(slots=True)
class DecisionEntry:
    """A decision as ``POST /v1/route`` shows it."""

    decision_id: str
    model: str
    fallbacks: list[str]
    reason: str
    latency_class: str
    candidates: list[CandidateEntry]

    @staticmethod
    def of(decision: Decision) -> DecisionEntry:
        """Return the entry of a decision."""
        return DecisionEntry(
            decision.id,
            decision.model,
            list(decision.fallbacks),
            decision.reason,
            decision.latency_class,
            list(map(CandidateEntry.of, decision.candidates)),
        )


@dataclass(slots=True)
class LoggedBounds:
    """The latency class's percentile and rule for infeasible requests, and the quality floor."""

    percentile: float
    infeasible: Literal["refuse", "fastest", "queue"]
    floor: float


@dataclass(slots=True)
class LoggedSteer:
    """Target and prices of the route's controllers, see ``budget_control.Steer``."""

    target: float
    asked: float | None = None
    strongest: str = ""
    share_price: float = 0.0
    usd_price: float = 0.0


@dataclass(slots=True)
class LoggedExploration:
    """The random draw, see ``exploration.Exploration``."""

    share: float
    draw: float
    by_chance: bool
    policy_model: str


@dataclass(slots=True)
class LoggedVersion:
    """The version drawn, of a model with a canary; see ``rollout.traffic_split.VersionDraw``."""

    name: str
    production: str
    canary: str
    share: float
    draw: float
    part: str
    why_not: str | None = None


@dataclass(slots=True)
class LoggedRouter:
    """The trained router that judged the request, and the models it judged by their prior."""

    digest: str
    part: str
    by_prior: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class LoggedAttempt:
    """An attempt on a model; ``message`` is there when it failed."""

    model: str
    status: str
    message: str | UnsetType = UNSET
    after_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Escalation:
    """A cascade's second step.

    Attributes:
        to: the better model.
        rows: number of rows that the first model was unsure of.
        of: number of rows in the request.
        threshold: confidence under which a row is escalated, with the present prices.
        confidence: of the first answer's least sure row.
        done: whether the second answer was used; if not, ``why``.
        gain: the least expected gain of a second answer, where a trained router decided.
        confidences: of the first answer's rows; None of many.
        gains: the expected gain of a second answer to each row; NaN (in JSON null) for rows unlike
            those of the training.
    """

    to: str
    rows: int
    of: int
    threshold: float
    confidence: float
    done: bool
    why: str = ""
    gain: float | None = None
    confidences: tuple[float, ...] | None = None
    gains: tuple[float | None, ...] | None = None

    @property
    def share(self) -> float:
        """Share of rows that were answered twice."""
        return self.rows / self.of if self.done else 0.0


@dataclass(slots=True)
class LoggedOutcome:
    """The outcome of the request."""

    model: str
    status: str
    queue_ms: float
    run_ms: float
    first_ms: float
    total_ms: float
    batch: int = 1
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    @staticmethod
    def of(outcome: Outcome, cost_usd: float) -> LoggedOutcome:
        """Return the entry of an outcome."""
        return LoggedOutcome(
            outcome.model,
            outcome.status,
            round(outcome.queue_s * 1e3, 3),
            round(outcome.run_s * 1e3, 3),
            round(outcome.first_s * 1e3, 3),
            round(outcome.total_s * 1e3, 3),
            outcome.batch,
            outcome.input_tokens,
            outcome.cached_tokens,
            outcome.output_tokens,
            cost_usd,
        )


@dataclass(slots=True, kw_only=True)
class LoggedDecision:
    """One line: a decision, its basis, and its outcome. Feedback has lines of its own.

    Attributes:
        named: the target of the request: a route, ``auto`` or a model.
        propensity: probability with which the chosen model was chosen.
        policy: the route's policy; None when the model was named directly.
        target: share of the best quality that was good enough.
        prompt: None unless prompts are logged.
        row: of a request of one row; None unless features are logged.
        shadow: the decision of the shadow router, where it arrived in time.
    """

    decision_id: str
    model: str
    fallbacks: list[str] = field(default_factory=list[str])
    reason: str = ""
    latency_class: str
    candidates: list[LoggedCandidate]
    decided_at: str
    named: str = ""
    route: str
    rule: str
    propensity: float = 1.0
    deadline_ms: float
    max_cost_usd: float | None
    min_quality: float | None
    policy: str | None
    target: float
    bounds: LoggedBounds
    features: dict[str, float] = field(default_factory=dict[str, float])
    units: float = 1.0
    input_tokens: float
    expected_output_tokens: float
    steer: LoggedSteer | None
    exploration: LoggedExploration | None
    version: LoggedVersion | None = None
    trace_id: str | None = None
    session: str | None = None
    prompt: str | None = None
    row: list[float] | None = None
    router: LoggedRouter | None = None
    attempts: list[LoggedAttempt] = field(default_factory=list[LoggedAttempt])
    escalation: Escalation | None = None
    shadow: dict[str, Any] | None = None
    outcome: LoggedOutcome | None
