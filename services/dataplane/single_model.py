"""The data plane of one model in a process beside its gateway, which makes the decisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from services.dataplane.answer import Answer, Stream
from services.dataplane.attempts import OpenedStream
from services.dataplane.data_plane import DataPlane, Snapshot, public_tensors
from turnout.types import Decision, Piece, Request, Tensors


class SingleModelPlane(DataPlane):
    """Runs every request on the only model of its catalog.

    The gateway has chosen this model, falls back to others, and accounts for the answer; so this
    plane does not decide, log, count or retry.
    """

    async def infer(self, request: Request, snapshot: Snapshot | None = None) -> Answer:
        """Answer tensors with tensors.

        Raises:
            TurnoutError: the model's own error.
        """
        self.refuse_when_draining()
        decision = self._decision(request)
        attempts = (snapshot or self.snapshot).attempts
        result = await attempts.infer(decision.model, request, cast("Tensors", request.inputs))
        return Answer(decision, decision.model, public_tensors(result.tensors))

    async def generate(self, request: Request, snapshot: Snapshot | None = None) -> Stream:
        """Begin a generated answer; returns once its first piece has arrived.

        Raises:
            TurnoutError: the model's own error.
        """
        self.refuse_when_draining()
        decision = self._decision(request)
        opened = await (snapshot or self.snapshot).attempts.open(decision.model, request)
        return Stream(decision, decision.model, _pieces(opened))

    def turned_away(self, code: str) -> None:
        """Do nothing: the gateway counts its requests."""

    def _decision(self, request: Request) -> Decision:
        model = next(iter(self.catalog.models))
        reason = "the gateway chose this model"
        return Decision(
            request.id, request.target, model, (), reason, "named", request.latency_class, ()
        )


async def _pieces(opened: OpenedStream) -> AsyncGenerator[Piece, None]:
    try:
        for piece in opened.read:
            yield piece
        async for piece in opened.rest:
            yield piece
    finally:
        await opened.rest.aclose()
