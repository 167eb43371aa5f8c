"""The last decisions, by id, and their log: one JSON line each, enough to decide again.

Lines are buffered and written by a thread every ``_FLUSH_S``, so that a request pays for neither
formatting nor disk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from turnout.types import Decision, Limits, Outcome

_FLUSH_S = 0.5


@dataclass(slots=True)
class Record:
    """A decision, what it was decided on, and what came of it.

    Attributes:
        decision: the decision.
        decided_at: wall-clock time, UTC.
        deadline_ms: time the request had.
        limits: the caller's own constraints.
        features: what the router saw of the input; never the input itself.
        trace_id: the caller's trace, if it sent one.
        outcome: what happened; None while it runs.
        feedback: what callers said of the answer, oldest first.
    """

    decision: Decision
    decided_at: datetime
    deadline_ms: float
    limits: Limits
    features: dict[str, float]
    trace_id: str | None = None
    outcome: Outcome | None = None
    feedback: list[dict[str, Any]] | None = None

    def as_json(self) -> dict[str, Any]:
        """The record as plain values, for the log and for ``GET /v1/decisions/{id}``."""
        decision, outcome = self.decision, self.outcome
        return decision_json(decision) | {
            "decided_at": self.decided_at.isoformat(),
            "rule": decision.rule,
            "route": decision.route,
            "propensity": decision.propensity,
            "deadline_ms": self.deadline_ms,
            "max_cost_usd": self.limits.max_cost_usd,
            "min_quality": self.limits.min_quality,
            "features": self.features,
            "trace_id": self.trace_id,
            "outcome": outcome and _outcome_json(outcome),
            "feedback": self.feedback or [],
        }


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision as ``POST /v1/route`` shows it; times in milliseconds."""
    return {
        "decision_id": decision.id,
        "model": decision.model,
        "fallbacks": list(decision.fallbacks),
        "reason": decision.reason,
        "latency_class": decision.latency_class,
        "candidates": [
            {
                "model": candidate.model,
                "quality": round(candidate.prediction.quality, 4),
                "p50_ms": round(candidate.prediction.p50_s * 1e3, 3),
                "p95_ms": round(candidate.prediction.p95_s * 1e3, 3),
                "cost_usd": candidate.prediction.cost_usd,
                "feasible": candidate.feasible,
                "why_not": candidate.why_not,
            }
            for candidate in decision.candidates
        ],
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "model": outcome.model,
        "status": outcome.status,
        "queue_ms": round(outcome.queue_s * 1e3, 3),
        "run_ms": round(outcome.run_s * 1e3, 3),
        "first_ms": round(outcome.first_s * 1e3, 3),
        "total_ms": round(outcome.total_s * 1e3, 3),
        "batch": outcome.batch,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
    }


class DecisionLog:
    """Keeps the last ``keep`` decisions in memory and, given a file, appends each to it.

    Args:
        path: the log file; None keeps none.
        keep: how many decisions stay readable by id.
    """

    def __init__(self, path: Path | None = None, keep: int = 5_000) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._keep = keep
        self._path = path
        self._pending: deque[Record | dict[str, Any]] = deque()
        self._stopping = threading.Event()
        self._writer: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = threading.Thread(target=self._write, name="decision-log", daemon=True)
            self._writer.start()

    def add(self, record: Record) -> None:
        """Remember a decision."""
        self._records[record.decision.id] = record
        if len(self._records) > self._keep:
            self._records.popitem(last=False)

    def end(self, record: Record, outcome: Outcome) -> None:
        """Attach what happened and write the line."""
        record.outcome = outcome
        if self._path is not None:
            self._pending.append(record)

    def feedback(self, decision_id: str, said: dict[str, Any]) -> bool:
        """Attach feedback; False when the decision is no longer (or never was) known."""
        record = self._records.get(decision_id)
        if record is None:
            return False
        record.feedback = [*(record.feedback or []), said]
        if self._path is not None:
            self._pending.append({"decision_id": decision_id, "feedback": said})
        return True

    def get(self, decision_id: str) -> Record | None:
        """The decision with this id, while it is remembered."""
        return self._records.get(decision_id)

    def close(self) -> None:
        """Write what is pending and stop the writer."""
        self._stopping.set()
        if self._writer is not None:
            self._writer.join()

    def _write(self) -> None:
        path = self._path
        if path is None:
            return
        with path.open("ab") as file:
            while True:
                stopping = self._stopping.wait(_FLUSH_S)
                while self._pending:
                    item = self._pending.popleft()
                    line = item.as_json() if isinstance(item, Record) else item
                    file.write(orjson.dumps(line) + b"\n")
                file.flush()
                if stopping:
                    return


def now() -> datetime:
    """The present wall-clock time, UTC."""
    return datetime.now(UTC)
