"""A cascade's second step: what the cheap model is unsure of goes to the better one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from routing.judge import Judge
from runners.protocol import Ran
from services.attempts import Attempts
from turnout.catalog import Catalog
from turnout.errors import CapacityError, RunnerError
from turnout.types import Decision, Request, Tensors


class Cascade:
    """Escalates answers of routes with a cascade.

    Args:
        catalog: the routes and their thresholds.
        judge: says how sure an answer is.
        attempts: runs the second model.
        clock: monotonic seconds.
    """

    def __init__(
        self, catalog: Catalog, judge: Judge, attempts: Attempts, clock: Callable[[], float]
    ) -> None:
        self._routes = catalog.routes
        self._judge = judge
        self._attempts = attempts
        self._clock = clock

    async def escalate(
        self, decision: Decision, request: Request, tensors: Tensors, ran: Ran
    ) -> tuple[str, Ran] | None:
        """Answer the unsure rows again, on the best fallback; None when the answer stands."""
        route = self._routes.get(decision.route)
        if route is None or route.cascade is None or not decision.fallbacks:
            return None
        confidence = self._judge.confidence(request.task, ran.tensors)
        rows = np.flatnonzero(confidence < route.cascade.threshold)
        if not len(rows):
            return None
        better = max(
            (c for c in decision.candidates if c.model in decision.fallbacks),
            key=lambda candidate: candidate.prediction.quality,
        )
        if self._clock() + better.prediction.p50_s > request.deadline_s:
            return None
        try:
            again = await self._attempts.infer(
                better.model, request, {key: value[rows] for key, value in tensors.items()}
            )
        except (RunnerError, CapacityError) as error:
            self._attempts.failed(better.model, error)
            return None
        merged = {key: np.array(value) for key, value in ran.tensors.items()}
        for key, value in again.tensors.items():
            merged[key][rows] = value
        return better.model, Ran(
            merged, ran.queue_s + again.queue_s, ran.run_s + again.run_s, ran.batch
        )
