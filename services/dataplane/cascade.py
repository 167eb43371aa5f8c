"""A cascade's second step: rows that the cheap model is unsure of go to the better model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from routing.decision.confidence import of_rows, of_text
from routing.decision.decider import Decider
from runners.protocol import TensorResult
from services.dataplane.accounting import Accounting
from services.dataplane.attempts import Attempts, OpenedStream
from services.dataplane.decision_record import DecisionRecord, Escalation, prediction_of
from turnout.catalog import Catalog, Route
from turnout.errors import CapacityError, InvalidRequest, RunnerError, TurnoutError
from turnout.types import Candidate, Generation, Request, Tensors

if TYPE_CHECKING:
    from services.routers.tensor_routers import TensorRouters

_STREAM_TOKENS = 24
_LOGGED_ROWS = 64
_ON_LOOP_ROWS = 256


class Cascade:
    """Escalates answers of routes with a cascade.

    Args:
        catalog: the routes and their thresholds.
        decider: charges the cost of a second answer.
        attempts: runs the second model.
        accounting: records its failures.
        clock: monotonic seconds.
        learned: predicts the gain of a second answer, on routes with a trained router.
    """

    def __init__(
        self,
        catalog: Catalog,
        decider: Decider,
        attempts: Attempts,
        accounting: Accounting,
        clock: Callable[[], float],
        learned: TensorRouters | None = None,
    ) -> None:
        self._learned = learned
        self._routes = catalog.routes
        self._decider = decider
        self._attempts = attempts
        self._accounting = accounting
        self._clock = clock

    async def escalate(
        self, record: DecisionRecord, request: Request, tensors: Tensors, ran: TensorResult
    ) -> tuple[str, TensorResult] | None:
        """Answer the unsure rows again, on the best fallback; None when the answer stands."""
        target = self._better(record)
        if target is None:
            return None
        better, threshold = target
        basis = (record, request, better, threshold, of_rows(request.task, ran.tensors))
        if len(basis[-1]) <= _ON_LOOP_ROWS:
            rows, escalation = self._unsure(*basis)
        else:
            rows, escalation = await asyncio.to_thread(self._unsure, *basis)
        if self._keeps_first_answer(record, escalation, better, request):
            return None
        try:
            second = await self._attempts.infer(
                better.model, request, {key: value[rows] for key, value in tensors.items()}
            )
        except (RunnerError, CapacityError, InvalidRequest) as error:
            self._record_failure(record, escalation, better, error)
            return None
        merged = {key: np.array(value) for key, value in ran.tensors.items()}
        for key, value in second.tensors.items():
            merged[key][rows] = value
        self._charge(record, escalation, better)
        return better.model, TensorResult(
            merged, ran.queue_s + second.queue_s, ran.run_s + second.run_s, ran.batch
        )

    def _unsure(
        self,
        record: DecisionRecord,
        request: Request,
        better: Candidate,
        threshold: float,
        confidence: np.ndarray,
    ) -> tuple[np.ndarray, Escalation]:
        """Return the rows to escalate, by their predicted gain or else by confidence alone."""
        unsure = confidence < threshold
        needed, gains = self._gains(record, request, better, confidence)
        if gains is not None:
            unsure = np.where(np.isnan(gains), unsure, gains >= needed)
        rows = np.flatnonzero(unsure)
        logs_rows = len(confidence) <= _LOGGED_ROWS
        return rows, Escalation(
            better.model,
            len(rows),
            len(confidence),
            threshold,
            float(confidence.min()),
            False,
            gain=None if gains is None else needed,
            confidences=tuple(confidence.tolist()) if logs_rows else None,
            gains=tuple(gains.tolist()) if logs_rows and gains is not None else None,
        )

    def _gains(
        self, record: DecisionRecord, request: Request, better: Candidate, confidence: np.ndarray
    ) -> tuple[float, np.ndarray | None]:
        """Return the gain a row needs to be escalated, and each row's expected gain, if learned."""
        decision = record.decision
        cascade = self._routes[decision.route].cascade
        if self._learned is None or cascade is None or cascade.gain is None:
            return 0.0, None
        needed, steer = cascade.gain, record.decided.steer
        if steer is not None:
            needed += steer.share_price + steer.usd_price * better.prediction.cost_usd
        pair = (decision.model, better.model)
        return needed, self._learned.gains(decision.route, request, pair, confidence)

    def watched(self, record: DecisionRecord, request: Request) -> Request:
        """Return the request with log-probabilities, which judging its answer needs."""
        if self._better(record) is None:
            return request
        return replace(request, inputs=replace(cast("Generation", request.inputs), logprobs=True))

    async def rewrite(
        self, record: DecisionRecord, request: Request, opened: OpenedStream
    ) -> OpenedStream:
        """Read the judged part of a generated answer; begin again on the best fallback if unsure.

        Nothing has been sent yet. A streamed answer is judged by its first tokens, another by all
        of it. An answer without log-probabilities stands.
        """
        target = self._better(record)
        if target is None:
            return opened
        better, threshold = target
        cascade = self._routes[record.decision.route].cascade
        tokens = None if cascade is None else cascade.judged_tokens
        if tokens is None and request.streamed:
            tokens = _STREAM_TOKENS
        logprobs = await _read(opened, tokens)
        confidence = of_text(logprobs)
        unsure = confidence is not None and confidence < threshold
        escalation = Escalation(
            better.model,
            int(unsure),
            1,
            threshold,
            1.0 if confidence is None else confidence,
            False,
            confidences=None if confidence is None else (confidence,),
        )
        if self._keeps_first_answer(record, escalation, better, request):
            return opened
        try:
            second = await self._attempts.open(better.model, request)
        except (RunnerError, CapacityError, InvalidRequest) as error:
            self._record_failure(record, escalation, better, error)
            return opened
        await opened.rest.aclose()
        self._charge(record, escalation, better)
        return second

    def _better(self, record: DecisionRecord) -> tuple[Candidate, float] | None:
        """Return the model that unsure rows go to, and the confidence under which they do."""
        decision = record.decision
        route: Route | None = self._routes.get(decision.route)
        if route is None or route.cascade is None or not decision.fallbacks:
            return None
        if not route.cascade.covers(decision.latency_class):
            return None
        better = max(
            (c for c in decision.candidates if c.model in decision.fallbacks),
            key=lambda candidate: candidate.prediction.quality,
        )
        chosen = next(c for c in decision.candidates if c.model == decision.model)
        if better.prediction.quality <= chosen.prediction.quality:
            return None
        threshold, steer = route.cascade.threshold, record.decided.steer
        if steer is not None:
            threshold -= steer.share_price + steer.usd_price * better.prediction.cost_usd
        return better, threshold

    def _keeps_first_answer(
        self, record: DecisionRecord, escalation: Escalation, better: Candidate, request: Request
    ) -> bool:
        """Return whether the first answer is kept, and record why.

        It is sure enough, or there is not enough time or money left for a second answer.
        """
        if escalation.rows == 0:
            self._decider.escalated(record.decision, 0, escalation.of, 0.0)
            record.escalation = escalation
            return True
        if self._clock() + better.prediction.p50_s > request.deadline_s:
            record.escalation = replace(escalation, why="no time left for a second answer")
            return True
        limit, first = (
            record.limits.max_cost_usd,
            prediction_of(record.decision, record.decision.model),
        )
        both_usd = better.prediction.cost_usd * escalation.rows / escalation.of
        both_usd += 0.0 if first is None else first.cost_usd
        if limit is not None and both_usd > limit:
            why = f"both answers would cost {both_usd:.3g} USD, over the limit of {limit:.3g} USD"
            record.escalation = replace(escalation, why=why)
            return True
        return False

    def _record_failure(
        self, record: DecisionRecord, escalation: Escalation, better: Candidate, error: TurnoutError
    ) -> None:
        self._accounting.attempt_failed(record, better.model, error)
        record.escalation = replace(escalation, why=str(error))

    def _charge(self, record: DecisionRecord, escalation: Escalation, better: Candidate) -> None:
        usd = better.prediction.cost_usd * (escalation.rows / escalation.of)
        self._decider.escalated(record.decision, escalation.rows, escalation.of, usd)
        record.escalation = replace(escalation, done=True)


async def _read(opened: OpenedStream, tokens: int | None) -> list[float]:
    """Read until ``tokens`` tokens (None: all) have arrived; return their log-probabilities."""
    logprobs = [chance.logprob for piece in opened.read for chance in piece.logprobs]
    while tokens is None or len(logprobs) < tokens:
        piece = await anext(opened.rest, None)
        if piece is None:
            break
        opened.read.append(piece)
        logprobs += [chance.logprob for chance in piece.logprobs]
    return logprobs if tokens is None else logprobs[:tokens]
