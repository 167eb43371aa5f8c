"""Record the outcome of each decision in breakers, latency models, metrics, log and controllers.

All learning from answers and failures happens here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from routing.decision.decider import Decider
from routing.decision.router import cost_usd
from routing.latency import Spread
from runners.protocol import TensorResult
from services.dataplane.decision_log import DecisionLog
from services.dataplane.decision_record import DecisionRecord, Failure, prediction_of
from services.dataplane.trial_outcomes import record_trial_outcome, record_trial_score
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from services.metrics.metrics import Metrics
from services.routers.prompt_routers import PromptRouters
from turnout.catalog import Catalog
from turnout.errors import RunnerError, TurnoutError
from turnout.types import Outcome, Piece, Prediction, Request


class Accounting:
    """Accounts for every decided request, once.

    Args:
        catalog: gives the cost of answers.
        fleet: holds the latency models and breakers.
        decider: holds the controllers.
        metrics: counts the outcomes.
        log: writes the outcomes.
        clock: monotonic seconds.
        routers: holds the canary router on trial.
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

    def run_succeeded(self, member: Member, result: TensorResult) -> None:
        """Record a successful run of tensors; a local backend learns its run times itself."""
        member.breaker.succeeded()
        if member.model.placement != "inline":
            member.latency.observe_run(float(result.batch), result.run_s)

    def attempt_failed(self, record: DecisionRecord, name: str, error: TurnoutError) -> None:
        """Record a failed attempt; the breaker counts it if the model is at fault."""
        after_s = self._clock() - record.arrived_s
        record.failures = (*record.failures, Failure(name, error.code, str(error), after_s))
        if isinstance(error, RunnerError):
            self._fleet.failed(name, error)

    def failed(
        self, record: DecisionRecord, name: str, error: BaseException, request: Request
    ) -> None:
        """Record a request that ended without an answer."""
        code = "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"
        if isinstance(error, TurnoutError):
            code = error.code
        total_s = self._clock() - request.arrived_s
        self._end(record, Outcome(name, code, 0.0, 0.0, total_s, total_s), None, None)

    def answered(self, record: DecisionRecord, outcome: Outcome, request: Request) -> None:
        """Record an answer of tensors."""
        prediction = prediction_of(record.decision, outcome.model)
        self._end(record, outcome, request, prediction)
        if prediction is not None and outcome.model == record.decision.model:
            self.learn_answer(outcome.model, prediction, outcome.total_s)

    def written(
        self,
        record: DecisionRecord,
        request: Request,
        name: str,
        status: str,
        last: Piece,
        times_s: tuple[float, float],
    ) -> None:
        """Record the end of a generation.

        Args:
            record: the decision behind it.
            request: the request.
            name: the model that wrote it.
            status: ``ok``, ``cancelled`` or an error's code.
            last: its last piece.
            times_s: from the request's arrival to the model's own first piece, and to the first
                that went out.
        """
        own_first_s, first_s = times_s
        total_s = self._clock() - request.arrived_s
        outcome = Outcome(
            name, status, 0.0, total_s - first_s, total_s, first_s, 1,
            last.prompt_tokens, last.completion_tokens, last.cached_tokens,
        )  # fmt: skip
        prediction = prediction_of(record.decision, name)
        self._end(record, outcome, request, prediction)
        if status == "ok":
            self._fleet.succeeded(name)
            if prediction is not None and name == record.decision.model:
                self.learn_generation(name, prediction, last, own_first_s, total_s)

    def feedback(self, decision_id: str, feedback: dict[str, Any]) -> bool:
        """Record feedback on an answer, ``score`` in [0, 1]; False for an unknown decision.

        All of it is counted and written. Trials and controllers get only the first one of a
        decision: they take scores to be of different requests.
        """
        earlier = self._log.get(decision_id)
        first = earlier is not None and not earlier.feedback
        record = self._log.feedback(decision_id, feedback)
        if record is None:
            return False
        decision, ended = record.decision, record.outcome
        model = decision.model if ended is None else ended.model
        score = float(feedback["score"])
        self._metrics.scored(decision.route, model, score)
        if not first:
            return True
        self._decider.scored(decision, model, score)
        if self._routers is not None:
            self._routers.canary.scored(record.decided.view.part, score)
        record_trial_score(record, score)
        return True

    def learn_answer(self, name: str, prediction: Prediction, actual_s: float) -> None:
        """Update the chosen model's latency model with the actual time."""
        p = prediction
        spread = Spread(p.p50_s, p.p95_s, p.p99_s, p.expected_s, p.waited)
        if name in self._fleet.members:
            self._fleet.members[name].latency.observe_answer(spread, actual_s)

    def learn_generation(
        self, name: str, prediction: Prediction, last: Piece, first_s: float, total_s: float
    ) -> None:
        """Update the latency model of a model that wrote an answer.

        Args:
            name: the model.
            prediction: made at the request's arrival.
            last: the last piece.
            first_s: from the request's arrival to the model's first piece.
            total_s: from the request's arrival to the last piece.
        """
        self.learn_answer(name, prediction, first_s)
        if name not in self._fleet.members:
            return
        latency = self._fleet.members[name].latency
        if not prediction.waited:
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
        prediction: Prediction | None,
    ) -> None:
        decision, within = record.decision, None
        if prediction is not None:
            record.cost_usd = self._cost(record, outcome, prediction)
            if outcome.model == decision.model and record.escalation is None:
                within = outcome.first_s <= prediction.p95_s
        held = request is not None and outcome.first_s <= request.deadline_in_s
        self._metrics.ended(decision, outcome, held, record.cost_usd, within)
        if self._routers is not None and record.decided.view.part is not None:
            self._routers.canary.ended(record.decided.view.part, outcome.status, held)
        if record.decided.drawn is not None:
            record_trial_outcome(record, outcome, self._metrics)
        self._log.end(record, outcome)

    def _cost(self, record: DecisionRecord, outcome: Outcome, prediction: Prediction) -> float:
        """Return the cost of the answer; of a generation by its tokens read and written."""
        usd = prediction.cost_usd
        if outcome.output_tokens:
            model = self._models[outcome.model]
            usd = cost_usd(model, float(outcome.input_tokens), float(outcome.output_tokens))
        if record.decided.steer is not None:
            self._decider.cost_was(record.decision, prediction.cost_usd, usd)
        escalation = record.escalation
        if escalation is not None and escalation.done:
            first = prediction_of(record.decision, record.decision.model)
            usd = usd * escalation.rows / escalation.of + (first.cost_usd if first else 0.0)
        return usd
