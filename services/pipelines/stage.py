"""One stage of one request: its input tensors, its expected time, its run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from routing.latency import Busy, Demand, ModelLatency
from services.dataplane.answer import Answer, Stream
from services.dataplane.data_plane import DataPlane, Snapshot
from turnout.catalog.pipeline import Reference, Stage
from turnout.errors import InvalidRequest
from turnout.types import Generation, Message, Request, Task, Tensors

_CHARS_PER_TOKEN = 4.0
_MAX_TEXT_CHARS = 2_000
_TYPICAL_PROMPT_TOKENS = _MAX_TEXT_CHARS / _CHARS_PER_TOKEN / 4

StageTensors: TypeAlias = "Mapping[str | None, Tensors]"
"""Output tensors by stage; the request's own inputs stand under None."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """The time a stage is expected to take.

    Attributes:
        first_s: to the answer; to the first token of a generated one.
        generation_s: from the first token to the last.
    """

    first_s: float
    generation_s: float = 0.0

    @property
    def total_s(self) -> float:
        """To the end of the answer."""
        return self.first_s + self.generation_s


def estimate(
    plane: DataPlane, models: Iterable[str], task: Task, rows: int, stage: Stage
) -> StageTime:
    """Time of the stage's quickest candidate, by its predicted p95 under the present load."""
    times: list[StageTime] = []
    for name in models:
        member = plane.fleet.members.get(name)
        if member is None or (state := plane.fleet.state(name)).broken is not None:
            continue
        times.append(_time_of(member.latency, state.busy, task, rows, stage))
    return min(times, key=lambda time: time.total_s, default=StageTime(0.0))


def _time_of(latency: ModelLatency, busy: Busy, task: Task, rows: int, stage: Stage) -> StageTime:
    if task is not Task.CHAT:
        return StageTime(latency.predict(Demand(float(rows)), busy).p95_s)
    demand = Demand(_TYPICAL_PROMPT_TOKENS, float(stage.max_tokens))
    return StageTime(latency.predict(demand, busy).p95_s, latency.token_s * stage.max_tokens)


def resolve(reference: Reference, tensors: StageTensors) -> np.ndarray:
    """The tensor a reference points to."""
    tensor = tensors[reference.stage][reference.tensor]
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


def stage_inputs(
    stage: Stage, task: Task, tensors: StageTensors
) -> tuple[Tensors | Generation, int]:
    """The inputs of a stage and their rows: its tensors, or its prompt filled in.

    Raises:
        InvalidRequest: a text of the prompt is not UTF-8.
    """
    if task is not Task.CHAT:
        inputs = {
            name: resolve(Reference.read(text), tensors) for name, text in stage.inputs.items()
        }
        return inputs, len(next(iter(inputs.values())))
    texts = {
        _as_written(reference): text_of(resolve(reference, tensors))[:_MAX_TEXT_CHARS]
        for reference in stage.references()
    }
    prompt = Message("user", stage.filled_prompt(texts))
    return Generation((prompt,), max_tokens=stage.max_tokens), 1


async def run(
    plane: DataPlane, request: Request, snapshot: Snapshot
) -> tuple[Answer | Stream, Tensors]:
    """Run a stage's request to its end.

    Raises:
        TurnoutError: see ``DataPlane.infer`` and ``DataPlane.generate``.
    """
    if request.task is not Task.CHAT:
        answer = await plane.infer(request, snapshot)
        return answer, answer.tensors
    stream = await plane.generate(request, snapshot)
    text = "".join([piece.text async for piece in stream.pieces])
    return stream, {"text": np.array([text.encode()], dtype=object)}


def _as_written(reference: Reference) -> str:
    """The reference as the prompt has it."""
    stage = "" if reference.stage is None else f"{reference.stage}."
    return f"{stage}{reference.tensor}{'.0' if reference.first else ''}"
