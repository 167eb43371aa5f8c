"""What came of each decision: told to the metrics, the log and the latency models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from routing.decision.decider import Decider
from routing.decision.router import cost_usd
from routing.latency import Spread
from services.dataplane.cascade import OpenedStream
from services.dataplane.decision_log import DecisionLog
from services.dataplane.decision_record import DecisionRecord, prediction_of
from services.dataplane.trial_outcomes import record_trial_outcome, record_trial_score
from services.fleet.fleet import Fleet
from services.metrics.metrics import Metrics
from services.routers.prompt_routers import PromptRouters
from turnout.catalog import Catalog
from turnout.errors import TurnoutError
from turnout.types import Outcome, Piece, Prediction, Request


class Accounting:
    """Accounts for every decided request, once.

    Args:
        catalog: what answers cost.
        fleet: whose latency models learn.
        decider: whose controllers learn.
        metrics: where outcomes are counted.
        log: where they are written.
        clock: monotonic seconds.
        routers: whose canary is on trial.
    """

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        decider: Decider,
        metrics: Metrics,
        log: DecisionLog,
        clock: Callable[[], float],
        routers: PromptRouters | None = None,
    ) -> None:
        self._routers = routers
        self._models = catalog.models
        self._fleet = fleet
        self._decider = decider
        self._metrics = metrics
        self._log = log
        self._clock = clock

    def failed(
        self, record: DecisionRecord, name: str, error: BaseException, request: Request
    ) -> None:
        """A request ended without an answer."""
        code = "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"
        if isinstance(error, TurnoutError):
            code = error.code
        total_s = self._clock() - request.arrived_s
        self._end(record, Outcome(name, code, 0.0, 0.0, total_s, total_s), None, None)

    def answered(self, record: DecisionRecord, outcome: Outcome, request: Request) -> None:
        """Tensors were answered."""
        told = prediction_of(record.decision, outcome.model)
        self._end(record, outcome, request, told)
        if told is not None and outcome.model == record.decision.model:
            self._learn(outcome.model, told, outcome.total_s)

    def written(
        self,
        record: DecisionRecord,
        request: Request,
        opened: OpenedStream,
        status: str,
        last: Piece,
        first_s: float,
    ) -> None:
        """A generation ended; it began to go out ``first_s`` after the request's arrival."""
        total_s = self._clock() - request.arrived_s
        name = opened.model
        outcome = Outcome(
            name, status, 0.0, total_s - first_s, total_s, first_s, 1,
            last.prompt_tokens, last.completion_tokens, last.cached_tokens,
        )  # fmt: skip
        told = prediction_of(record.decision, name)
        self._end(record, outcome, request, told)
        if status == "ok":
            self._fleet.succeeded(name)
            if told is not None and name == record.decision.model:
                self._learn_generation(name, told, last, opened.first_s, total_s)

    def feedback(self, decision_id: str, said: dict[str, Any]) -> bool:
        """Feedback on an answer, ``score`` in [0, 1]; False when it is not remembered.

        All of it is counted and written. Trials and controllers hear the first of a decision only:
        they take scores as of different requests, and one that is sent again is no other.
        """
        known = self._log.get(decision_id)
        first = known is not None and not known.feedback
        record = self._log.feedback(decision_id, said)
        if record is None:
            return False
        decision, ended = record.decision, record.outcome
        model = decision.model if ended is None else ended.model
        score = float(said["score"])
        self._metrics.scored(decision.route, model, score)
        if not first:
            return True
        self._decider.scored(decision, model, score)
        if self._routers is not None:
            self._routers.canary.scored(record.decided.view.part, score)
        record_trial_score(record, score)
        return True

    def _learn(self, name: str, told: Prediction, actual_s: float) -> None:
        """Compare what was predicted of the chosen model with what it took."""
        spread = Spread(told.p50_s, told.p95_s, told.p99_s, told.expected_s, told.waited)
        if name in self._fleet.members:
            self._fleet.members[name].latency.observe_answer(spread, actual_s)

    def _learn_generation(
        self, name: str, told: Prediction, last: Piece, first_s: float, total_s: float
    ) -> None:
        self._learn(name, told, first_s)
        if name not in self._fleet.members:
            return
        latency = self._fleet.members[name].latency
        if not told.waited:
            latency.observe_run(float(last.prompt_tokens), first_s)
        writing_s = total_s - first_s
        if last.completion_tokens > 1:
            latency.observe_token(writing_s / (last.completion_tokens - 1))
        latency.observe_turn(writing_s + latency.run_s(float(last.prompt_tokens)))

    def _end(
        self,
        record: DecisionRecord,
        outcome: Outcome,
        request: Request | None,
        told: Prediction | None,
    ) -> None:
        decision, within = record.decision, None
        if told is not None:
            record.cost_usd = self._cost(record, outcome, told)
            if outcome.model == decision.model and record.escalation is None:
                within = outcome.first_s <= told.p95_s
        held = request is not None and outcome.first_s <= request.deadline_in_s
        self._metrics.ended(decision, outcome, held, record.cost_usd, within)
        if self._routers is not None and record.decided.view.part is not None:
            self._routers.canary.ended(record.decided.view.part, outcome.status, held)
        if record.decided.drawn is not None:
            record_trial_outcome(record, outcome, self._metrics)
        self._log.end(record, outcome)

    def _cost(self, record: DecisionRecord, outcome: Outcome, told: Prediction) -> float:
        """What the answer cost; a generation by the tokens that were read and written."""
        usd = told.cost_usd
        if outcome.output_tokens:
            model = self._models[outcome.model]
            usd = cost_usd(model, float(outcome.input_tokens), float(outcome.output_tokens))
        if record.decided.steer is not None:
            self._decider.cost_was(record.decision, told.cost_usd, usd)
        escalation = record.escalation
        if escalation is not None and escalation.done:
            first = prediction_of(record.decision, record.decision.model)
            usd = usd * escalation.rows / escalation.of + (first.cost_usd if first else 0.0)
        return usd
