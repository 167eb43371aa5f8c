"""The types that every package shares: requests, predictions, decisions and outcomes.

All frozen, slotted dataclasses without behaviour beyond small derived values. Units end names.
A deadline is an absolute instant on the monotonic clock inside, remaining time on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Tensors: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"


class Task(StrEnum):
    """What a model does; fixes its public tensors (see ``signature``)."""

    CHAT = "chat"
    IMAGE = "image"
    TABULAR = "tabular"
    EMBED = "embed"
    CLASSIFY_TEXT = "classify-text"
    RANK = "rank"
    RECOMMEND = "recommend"
    RETRIEVE = "retrieve"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, Open Inference Protocol datatype and shape of a tensor; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """The public tensors of a task."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


_Template: TypeAlias = "tuple[str, str, tuple[int | str, ...]]"

_ITEM_OUTPUTS: tuple[_Template, ...] = (
    ("item", "INT64", (-1, "top")),
    ("score", "FP32", (-1, "top")),
    ("features", "FP32", (-1, "top", "columns")),
)
_TEMPLATES: Mapping[Task, tuple[tuple[_Template, ...], tuple[_Template, ...]]] = {
    Task.IMAGE: (
        (("image", "BYTES", (-1,)),),
        (("class_id", "INT64", (-1,)), ("class_name", "BYTES", (-1,)), ("score", "FP32", (-1,))),
    ),
    Task.TABULAR: (
        (("features", "FP32", (-1, "columns")),),
        (("probability", "FP32", (-1,)),),
    ),
    Task.EMBED: ((("text", "BYTES", (-1,)),), (("embedding", "FP32", (-1, "width")),)),
    Task.CHAT: ((("prompt", "BYTES", (-1,)),), (("text", "BYTES", (-1,)),)),
    Task.CLASSIFY_TEXT: (
        (("text", "BYTES", (-1,)),),
        (("label", "BYTES", (-1,)), ("score", "FP32", (-1,))),
    ),
    Task.RANK: ((("features", "FP32", (-1, "columns")),), (("score", "FP32", (-1,)),)),
    Task.RECOMMEND: ((("user", "INT64", (-1,)),), _ITEM_OUTPUTS),
    Task.RETRIEVE: ((("embedding", "FP32", (-1, "width")),), _ITEM_OUTPUTS),
    Task.LOOKUP: ((("item", "INT64", (-1,)),), (("text", "BYTES", (-1,)),)),
}
"""Public tensors of each task; a name in a shape is a dimension that the model sets."""

DIMENSIONS: Mapping[Task, Mapping[str, int]] = {
    Task.TABULAR: {"columns": 15},
    Task.EMBED: {"width": 384},
    Task.RANK: {"columns": -1},
    Task.RECOMMEND: {"top": -1, "columns": -1},
    Task.RETRIEVE: {"width": -1, "top": -1, "columns": -1},
}
"""The dimensions that a model of each task may set, with their defaults."""


def signature(task: Task, dimensions: Mapping[str, int] | None = None) -> Signature:
    """Return the public tensors of a model.

    Args:
        task: the model's task.
        dimensions: the dimensions that its catalog entry sets.
    """
    sizes = {**DIMENSIONS.get(task, {}), **(dimensions or {})}

    def specs(templates: tuple[_Template, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, datatype, tuple(n if isinstance(n, int) else sizes[n] for n in shape))
            for name, datatype, shape in templates
        )

    inputs, outputs = _TEMPLATES[task]
    return Signature(specs(inputs), specs(outputs))


SIGNATURES: Mapping[Task, Signature] = {task: signature(task) for task in Task}
"""The public tensors of each task, where a model sets no dimension of its own."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The answer must be one JSON value.

    Attributes:
        schema: JSON Schema of the value as JSON text; None takes any object.
        name: the caller's name for the schema; only upstream servers receive it.
        strict: whether the caller wants an exact match. Local engines always match exactly.
    """

    schema: str | None = None
    name: str = "answer"
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """The parameters of one text generation.

    Attributes:
        messages: the conversation, oldest first.
        max_tokens: tokens to write at most.
        temperature: 0 is greedy.
        top_p: nucleus mass, in (0, 1].
        stop: strings that end the answer; they are not part of it.
        seed: makes sampling repeatable on one host.
        logprobs: whether each piece carries its tokens' log-probabilities.
        top_logprobs: how many of the likeliest tokens to list beside each.
        json: the form of the answer; None is free text.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    json: JsonFormat | None = None


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token and its probability under the model.

    Attributes:
        token: its bytes; alone they need not be whole characters.
        logprob: natural log-probability under the model itself (temperature 1, no nucleus).
        top: the likeliest tokens at this place, when requested.
    """

    token: bytes
    logprob: float
    top: tuple[TokenChance, ...] = ()


FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a generated answer. The last piece has a ``finish_reason``.

    Attributes:
        text: new text since the last piece; may be empty.
        token_ids: the tokens it came from.
        logprobs: one for each token, when requested.
        prompt_tokens: length of the prompt, on the last piece.
        completion_tokens: tokens written in all, on the last piece.
        cached_tokens: prompt tokens whose keys and values were cached, on the last piece.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenChance, ...] = ()
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The caller's own limits on cost and quality. None means no limit."""

    max_cost_usd: float | None = None
    min_quality: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request, independent of the protocol.

    Attributes:
        id: unique; also the id of its decision.
        target: the name in the request: a route, ``auto``, or one model.
        task: the requested task.
        inputs: public tensors by name, or a ``Generation`` for chat.
        latency_class: name of the class in the catalog.
        arrived_s: monotonic instant of arrival.
        deadline_s: monotonic instant by which the answer (chat: its first token) is due.
        limits: the caller's own constraints.
        trace_id: the caller's trace, 32 hex digits (W3C Trace Context).
        session: the caller's own id of the conversation it belongs to.
        streamed: whether a generation is sent piece by piece.
        own_deadline: whether the caller itself set the deadline, instead of its class.
    """

    id: str
    target: str
    task: Task
    inputs: Tensors | Generation
    latency_class: str
    arrived_s: float
    deadline_s: float
    limits: Limits = field(default_factory=Limits)
    trace_id: str | None = None
    session: str | None = None
    streamed: bool = False
    own_deadline: bool = False

    @property
    def deadline_in_s(self) -> float:
        """Time from arrival to the deadline, in seconds."""
        return self.deadline_s - self.arrived_s


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted quality, latency and cost of one candidate for one request.

    Attributes:
        quality: calibrated P(good answer), in [0, 1].
        p50_s: median seconds to the answer (chat: to the first token).
        p95_s: seconds within which 95 % of answers arrive.
        cost_usd: expected cost.
        p99_s: seconds within which 99 % of answers arrive.
        expected_s: expectation before its spread was learned.
        waited: whether most of the time is waiting.
    """

    quality: float
    p50_s: float
    p95_s: float
    cost_usd: float
    p99_s: float = float("inf")
    expected_s: float = 0.0
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could answer, its prediction, and the reason where it may not answer.

    ``broken`` means that it is out of service, whatever the bounds.
    """

    model: str
    prediction: Prediction
    feasible: bool
    why_not: str | None = None
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen model, its fallbacks, and the reason.

    Attributes:
        id: the request's id.
        route: the route that decided; the model's own name when it was named directly.
        model: the chosen model.
        fallbacks: models tried next, in order, when the chosen one fails.
        reason: one sentence for a person.
        rule: stable name of the rule that decided (a metric label).
        latency_class: name of the class.
        candidates: every model considered.
        propensity: probability with which this policy chooses this model here.
    """

    id: str
    route: str
    model: str
    fallbacks: tuple[str, ...]
    reason: str
    rule: str
    latency_class: str
    candidates: tuple[Candidate, ...]
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a decided request.

    Attributes:
        model: the model that answered in the end (differs from the decision's after a fallback).
        status: ``ok`` or the error's code.
        queue_s: wait before the run.
        run_s: the run itself.
        total_s: arrival to last byte.
        first_s: arrival to first token (generation) or to the answer.
        batch: rows run together.
        input_tokens: prompt tokens of a generation.
        output_tokens: tokens written.
        cached_tokens: prompt tokens that came from the cache.
    """

    model: str
    status: str
    queue_s: float
    run_s: float
    total_s: float
    first_s: float
    batch: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
