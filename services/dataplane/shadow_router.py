"""A shadow router: decides beside the serving one, off the hot path, and is never served."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from routing.decision.constraints import why_not
from routing.decision.router import bounds_of, settle
from services.dataplane.decision_record import DecisionRecord
from services.routers.prompt_routers import LearnedPrompts
from turnout.errors import TurnoutError
from turnout.types import Candidate, Generation, Request

logger = logging.getLogger("turnout.shadow")

_WAITING = 256

Record = Callable[[DecisionRecord, dict[str, Any]], None]


class ShadowRouter:
    """Repeats the serving router's decisions with the shadow router, on its own thread.

    Args:
        router: returns the shadow router, if there is one.
        record: called with each record and the shadow's decision, on that thread.
    """

    def __init__(self, router: Callable[[], LearnedPrompts | None], record: Record) -> None:
        self._router = router
        self._record = record
        self._queue: queue.Queue[tuple[DecisionRecord, str, bool] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def offer(self, record: DecisionRecord, request: Request) -> None:
        """Queue a decision to be made again; dropped when too many wait.

        Decisions by a session's earlier model are left out: no router made them.
        """
        if self._router() is None or not isinstance(request.inputs, Generation):
            return
        if record.decision.rule == "session":
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow-router", daemon=True)
            self._thread.start()
        prompt = request.inputs.messages[-1].content
        try:
            self._queue.put_nowait((record, prompt, record.latency_class.priority == 0))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Finish the queue and stop the thread."""
        if self._thread is not None:
            if self._thread.is_alive():  # else the queue may stay full
                self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            record, prompt, fast = item
            try:
                router = self._router()
                if router is not None:
                    self._record(record, decide_again(record, router, prompt, fast=fast))
            except Exception:
                logger.exception("the shadow router failed on %s", record.decision.id)


def decide_again(
    record: DecisionRecord, router: LearnedPrompts, prompt: str, *, fast: bool
) -> dict[str, Any]:
    """Return this router's decision, with everything but the quality as logged."""
    decision, route, drawn = record.decision, record.decided.route, record.decided.drawn
    canary = None if drawn is None else drawn.rollout.canary
    considered = [candidate for candidate in decision.candidates if candidate.model != canary]
    models = [candidate.model for candidate in considered]
    quality = router.quality(prompt, models, fast=fast)
    bounds = bounds_of(route, record.latency_class, record.deadline_ms / 1e3, record.limits)

    def rejudged(candidate: Candidate) -> Candidate:
        prediction = replace(candidate.prediction, quality=quality[candidate.model])
        reason = candidate.why_not if candidate.broken else why_not(prediction, bounds)
        return Candidate(candidate.model, prediction, reason is None, reason, candidate.broken)

    candidates = [rejudged(candidate) for candidate in considered]
    chance = record.decided.exploration
    served = decision.model if drawn is None else drawn.rollout.production
    served = served if chance is None else chance.policy_model
    try:
        choice = settle(route, decision.latency_class, bounds, candidates, record.decided.steer)
        model, rule = choice.candidate.model, choice.rule
    except TurnoutError as error:
        model, rule = None, error.code
    return {
        "model": model,
        "rule": rule,
        "agrees": model == served,
        "quality": {name: round(value, 6) for name, value in quality.items()},
    }
