"""One stage of one request: its route, its tensors, its share of the deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from routing.latency import Demand
from services.dataplane.data_plane import Answer, DataPlane, Snapshot, Stream
from turnout.catalog.pipeline import Reference, Stage
from turnout.errors import InvalidRequest
from turnout.types import Generation, Message, Request, Task, Tensors

_CHARS_PER_TOKEN = 4.0
_MAX_CARD = 2_000


@dataclass(frozen=True, slots=True)
class Passed:
    """A stage that has answered.

    Attributes:
        stage: its name.
        decision_id: of its decision, for ``GET /v1/decisions/{id}``.
        route: the route or model it called.
        model: who answered.
        ms: from the request's arrival at the stage to its answer.
        cost_usd: expected.
    """

    stage: str
    decision_id: str
    route: str
    model: str
    ms: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What a stage's quickest candidate would take now, by its predicted p95.

    Attributes:
        first_s: to the answer; to the first token of one that is written.
        writing_s: from there to its end.
    """

    first_s: float
    writing_s: float = 0.0

    @property
    def whole_s(self) -> float:
        """To the end of the answer."""
        return self.first_s + self.writing_s


def expected(
    plane: DataPlane, models: Sequence[str], task: Task, rows: int, stage: Stage
) -> Expected:
    """What a stage's candidates would take for so many rows under the present load."""
    found: list[Expected] = []
    for name in models:
        member = plane.fleet.members.get(name)
        state = None if member is None else plane.fleet.state(name)
        if member is None or state is None or state.broken is not None:
            continue
        latency = member.latency
        if task is Task.CHAT:
            demand = Demand(_MAX_CARD / _CHARS_PER_TOKEN / 4, float(stage.max_tokens))
            first_s = latency.predict(demand, state.busy).p95_s
            found.append(Expected(first_s, latency.token_s * stage.max_tokens))
        else:
            found.append(Expected(latency.predict(Demand(float(rows)), state.busy).p95_s))
    return min(found, key=lambda each: each.whole_s, default=Expected(0.0))


def taken(reference: Reference, given: Tensors, done: Mapping[str, Tensors]) -> np.ndarray:
    """The tensor a reference means."""
    source = given if reference.stage is None else done[reference.stage]
    tensor = source[reference.tensor]
    return tensor[0] if reference.first else tensor


def text_of(tensor: np.ndarray) -> str:
    """The first row of a BYTES tensor.

    Raises:
        InvalidRequest: it is not UTF-8.
    """
    try:
        return cast("bytes", tensor[0]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the text is not UTF-8: {error}") from error


def generation(stage: Stage, given: Tensors, done: Mapping[str, Tensors]) -> Generation:
    """What a writing stage is asked: its prompt with every reference filled in."""
    texts = {
        _written(reference): text_of(taken(reference, given, done))[:_MAX_CARD]
        for reference in stage.references()
    }
    return Generation((Message("user", stage.asked(texts)),), max_tokens=stage.max_tokens)


async def run(
    plane: DataPlane, request: Request, terms: Snapshot
) -> tuple[Answer | Stream, Tensors]:
    """Run a stage's request to its end.

    Raises:
        TurnoutError: see ``DataPlane.infer`` and ``DataPlane.generate``.
    """
    if request.task is not Task.CHAT:
        answer = await plane.infer(request, terms)
        return answer, answer.tensors
    stream = await plane.generate(request, terms)
    text = "".join([piece.text async for piece in stream.pieces])
    return stream, {"text": np.array([text.encode()], dtype=object)}


def _written(reference: Reference) -> str:
    """The reference as the prompt has it."""
    stage = "" if reference.stage is None else f"{reference.stage}."
    return f"{stage}{reference.tensor}{'.0' if reference.first else ''}"
