"""What came of each decision: told to the metrics, the log and the latency models."""

from __future__ import annotations

from collections.abc import Callable

from routing.latency import Spread
from services.decisions import DecisionLog, Record
from services.fleet import Fleet
from services.metrics import Metrics
from turnout.errors import TurnoutError
from turnout.types import Decision, Outcome, Piece, Request


class Ledger:
    """Accounts for every decided request, once.

    Args:
        fleet: whose latency models learn.
        metrics: where outcomes are counted.
        log: where they are written.
        clock: monotonic seconds.
    """

    def __init__(
        self, fleet: Fleet, metrics: Metrics, log: DecisionLog, clock: Callable[[], float]
    ) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._log = log
        self._clock = clock

    def failed(self, record: Record, name: str, error: BaseException, request: Request) -> None:
        """A request ended without an answer."""
        code = error.code if isinstance(error, TurnoutError) else "cancelled"
        total_s = self._clock() - request.arrived_s
        self._end(record, Outcome(name, code, 0.0, 0.0, total_s, total_s), None)

    def answered(self, record: Record, outcome: Outcome, request: Request) -> None:
        """Tensors were answered."""
        self._end(record, outcome, request)
        self._learn(record.decision, outcome.model, outcome.total_s)

    def written(
        self,
        record: Record,
        request: Request,
        name: str,
        status: str,
        last: Piece,
        first_s: float,
    ) -> None:
        """A generation ended, well (``ok``) or not, ``first_s`` after arrival its first token."""
        total_s = self._clock() - request.arrived_s
        outcome = Outcome(
            name, status, 0.0, total_s - first_s, total_s, first_s, 1,
            last.prompt_tokens, last.completion_tokens, last.cached_tokens,
        )  # fmt: skip
        self._end(record, outcome, request)
        if status == "ok":
            self._fleet.succeeded(name)
            self._learn_generation(record.decision, name, last, first_s, total_s)

    def _learn(self, decision: Decision, name: str, actual_s: float) -> None:
        """Compare what was predicted of the chosen model with what it took."""
        if name != decision.model:
            return
        told = next(c.prediction for c in decision.candidates if c.model == name)
        spread = Spread(told.p50_s, told.p95_s, told.p99_s, told.expected_s, told.waited)
        self._fleet.members[name].latency.observe_answer(spread, actual_s)

    def _learn_generation(
        self, decision: Decision, name: str, last: Piece, first_s: float, total_s: float
    ) -> None:
        self._learn(decision, name, first_s)
        latency = self._fleet.members[name].latency
        told = next(c.prediction for c in decision.candidates if c.model == name)
        if not told.waited and name == decision.model:
            latency.observe_run(float(last.prompt_tokens), first_s)
        writing_s = total_s - first_s
        if last.completion_tokens > 1:
            latency.observe_token(writing_s / (last.completion_tokens - 1))
        latency.observe_turn(writing_s + latency.run_s(float(last.prompt_tokens)))

    def _end(self, record: Record, outcome: Outcome, request: Request | None) -> None:
        decision = record.decision
        cost_usd, within = 0.0, None
        for candidate in decision.candidates:
            if candidate.model == outcome.model:
                cost_usd = candidate.prediction.cost_usd
                if outcome.model == decision.model:
                    within = outcome.first_s <= candidate.prediction.p95_s
        held = request is not None and outcome.first_s <= request.deadline_in_s
        self._metrics.ended(decision, outcome, held, cost_usd, within)
        self._log.end(record, outcome)
