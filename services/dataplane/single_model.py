"""The data plane of one model in a process beside its gateway, which makes the decisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from services.dataplane.answer import Answer, Stream
from services.dataplane.attempts import OpenedStream
from services.dataplane.data_plane import DataPlane, Snapshot, public_tensors
from turnout.errors import RunnerError
from turnout.types import Decision, Piece, Prediction, Request, Tensors


class SingleModelPlane(DataPlane):
    """Runs every request on the only model of its catalog.

    The gateway has chosen this model, falls back to others, and accounts for the answer; so this
    plane does not decide, log, count or retry. It learns how fast its model is.
    """

    async def infer(self, request: Request, snapshot: Snapshot | None = None) -> Answer:
        """Answer tensors with tensors.

        Raises:
            UnknownModel, WrongTask: the request is for another model or task.
            TurnoutError: the model's own error.
        """
        decision = self._decision(request)
        name, prediction = decision.model, self._predict(request, decision.model)
        snapshot = snapshot or self.snapshot
        try:
            result = await snapshot.attempts.infer(name, request, cast("Tensors", request.inputs))
        except RunnerError as error:
            self.fleet.failed(name, error)
            raise
        snapshot.accounting.learn_answer(name, prediction, self.clock() - request.arrived_s)
        return Answer(decision, name, public_tensors(result.tensors))

    async def generate(self, request: Request, snapshot: Snapshot | None = None) -> Stream:
        """Begin a generated answer; returns once its first piece has arrived.

        Errors are those of ``infer``.
        """
        decision = self._decision(request)
        name, prediction = decision.model, self._predict(request, decision.model)
        snapshot = snapshot or self.snapshot
        try:
            opened = await snapshot.attempts.open(name, request)
        except RunnerError as error:
            self.fleet.failed(name, error)
            raise
        return Stream(decision, name, self._pieces(snapshot, request, opened, prediction))

    def turned_away(self, code: str) -> None:
        """Do nothing: the gateway counts the outcome of its request."""

    def _decision(self, request: Request) -> Decision:
        self.refuse_when_draining()
        self.decider.resolve(request)
        model = next(iter(self.catalog.models))
        reason = "the gateway chose this model"
        return Decision(
            request.id, request.target, model, (), reason, "named", request.latency_class, ()
        )

    def _predict(self, request: Request, model: str) -> Prediction:
        """Predict the latency under the present load; quality and cost are the gateway's."""
        demand = self._analyzer.look(request, (model,)).demand
        busy = self.fleet.state(model).busy
        spread = self.fleet.members[model].latency.predict(demand, busy)
        return Prediction(
            1.0, spread.p50_s, spread.p95_s, 0.0, spread.p99_s, spread.median_s, spread.waited
        )

    async def _pieces(
        self, snapshot: Snapshot, request: Request, opened: OpenedStream, prediction: Prediction
    ) -> AsyncGenerator[Piece, None]:
        """Pass the pieces on and learn from the answer once it is complete."""
        last = opened.read[-1]
        try:
            for piece in opened.read:
                yield piece
            async for piece in opened.rest:
                last = piece
                yield piece
        except RunnerError as error:
            self.fleet.failed(opened.model, error)
            raise
        finally:
            await opened.rest.aclose()
        self.fleet.succeeded(opened.model)
        total_s = self.clock() - request.arrived_s
        snapshot.accounting.learn_generation(
            opened.model, prediction, last, opened.first_s, total_s
        )
