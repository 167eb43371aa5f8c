"""Outcomes of requests as evidence on the version that was drawn for them."""

from __future__ import annotations

from services.dataplane.decision_record import DecisionRecord
from services.metrics.metrics import Metrics
from turnout.errors import DeadlineUnreachable, InvalidRequest
from turnout.types import Outcome

_CANCELLED = "cancelled"


def record_trial_outcome(record: DecisionRecord, outcome: Outcome, metrics: Metrics) -> None:
    """Add a request's outcome to the trial that it took part in.

    Outcomes without evidence on the version are left out: a caller that left in time, an invalid
    request, a limit of the caller's that excluded the canary, the time of a load.
    """
    drawn = record.decided.drawn
    if drawn is None or (drawn.why_not is not None and drawn.fault is None):
        return
    late: bool | None = outcome.first_s * 1e3 > record.deadline_ms
    if drawn.fault is not None:
        failed, late, took_s = drawn.fault == "failed", drawn.fault == "late" or None, None
    else:
        failed = _failed(record, outcome, drawn.model)
        has_answered = outcome.status == "ok" and _answered(record, outcome, drawn.model)
        if not failed and not has_answered and not late:
            return
        took_s = outcome.first_s if has_answered and not record.escalated else None
    if drawn.cold:
        late, took_s = None, None
    drawn.rollout.trial.ended(drawn.part, failed=failed, late=late, took_s=took_s)
    metrics.tried(drawn.rollout.name, drawn.model, drawn.part, failed=failed, late=bool(late))


def record_trial_score(record: DecisionRecord, score: float) -> None:
    """Add the score of an answer of the drawn version to its trial."""
    drawn, ended = record.decided.drawn, record.outcome
    if drawn is not None and ended is not None and ended.model == drawn.model:
        drawn.rollout.trial.scored(drawn.part, score)


def _answered(record: DecisionRecord, outcome: Outcome, model: str) -> bool:
    """Return whether the version answered, even where a cascade then escalated."""
    if record.escalated:
        return all(failure.model != model for failure in record.failures)
    return outcome.model == model


def _failed(record: DecisionRecord, outcome: Outcome, model: str) -> bool:
    """Return whether the version failed the request; a missed deadline is lateness instead.

    Refusing a request as invalid is its fault only where another version accepted it.
    """
    codes = [failure.code for failure in record.failures if failure.model == model]
    if outcome.status != "ok" and outcome.model == model:
        codes.append(outcome.status)
    excused = {_CANCELLED, DeadlineUnreachable.code}
    if outcome.status != "ok":
        excused.add(InvalidRequest.code)
    return any(code not in excused for code in codes)
