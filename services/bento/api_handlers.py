"""What the BentoML APIs do; imported by the first call, not while services start."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bentoml.exceptions import BentoMLException

from services.http.messages import Headers
from services.protocols import routing_options as options
from services.protocols.errors import status_of
from services.protocols.native import NativeProtocol
from services.protocols.open_inference import check
from services.protocols.openai_schema import chat_body
from services.protocols.response_headers import decision_headers
from turnout.errors import InvalidRequest, TurnoutError, UnknownRoute
from turnout.types import Task, Tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import bentoml

    from services.dataplane.data_plane import Answer, DataPlane

_Said = tuple[str | None, float | None]
"""Latency class and deadline in milliseconds, as given in the body."""


class _Failed(BentoMLException):
    """One of our errors as BentoML reports it: the status and the message, no traceback."""

    known = True  # see services/bento/log_filter.py

    def __init__(self, error: TurnoutError) -> None:
        super().__init__(str(error))
        self.error_code = HTTPStatus(status_of(error) if status_of(error) != 499 else 503)


async def chat(
    plane: DataPlane, ctx: bentoml.Context, body: dict[str, Any], said: _Said
) -> dict[str, Any]:
    """See ``ChatApi.chat``."""
    now_s = plane.clock()
    try:
        generation = chat_body(body).generation()
        request = options.request(
            plane, body["model"], Task.CHAT, generation, _options(ctx, *said), now_s
        )
        stream = await plane.generate(request)
        pieces = [piece async for piece in stream.pieces]
    except TurnoutError as error:
        raise _Failed(error) from None
    _say(ctx, decision_headers(stream))
    last = pieces[-1]
    return {
        "text": "".join(piece.text for piece in pieces),
        "model": stream.model,
        "decision_id": stream.decision.id,
        "usage": {
            "prompt_tokens": last.prompt_tokens,
            "completion_tokens": last.completion_tokens,
        },
    }


async def classify(
    plane: DataPlane, ctx: bentoml.Context, images: Sequence[Path], model: str, said: _Said
) -> dict[str, Any]:
    """See ``ImageApi.classify``."""
    tensor = np.array([path.read_bytes() for path in images], dtype=object)
    answer = await _infer(plane, ctx, Task.IMAGE, model, {"image": tensor}, said)
    found = answer.tensors
    return {
        "class_id": found["class_id"].tolist(),
        "class_name": [name.decode() for name in found["class_name"]],
        "score": found["score"].tolist(),
    }


async def score(
    plane: DataPlane, ctx: bentoml.Context, features: object, model: str, said: _Said
) -> dict[str, Any]:
    """See ``TabularApi.score``."""
    try:
        rows = np.atleast_2d(np.asarray(features, dtype=np.float32))
    except (TypeError, ValueError) as error:
        message = f"features must be n rows of numbers: {error}"
        raise _Failed(InvalidRequest(message)) from None
    answer = await _infer(plane, ctx, Task.TABULAR, model, {"features": rows}, said)
    return {"probability": answer.tensors["probability"].tolist()}


async def read_text(
    plane: DataPlane,
    ctx: bentoml.Context,
    task: Task,
    texts: Sequence[str],
    model: str,
    said: _Said,
) -> dict[str, Any]:
    """See ``EmbedApi.embed`` and ``ClassifyTextApi.classify_text``."""
    tensor = np.array([text.encode() for text in texts], dtype=object)
    answer = await _infer(plane, ctx, task, model, {"text": tensor}, said)
    return _plain(answer.tensors)


async def read_numbers(
    plane: DataPlane,
    ctx: bentoml.Context,
    task: Task,
    given: tuple[str, object, type, int],
    model: str,
    said: _Said,
) -> dict[str, Any]:
    """See ``RankApi`` and those after it; ``given`` is name, value, dtype and axes at least."""
    name = given[0]
    answer = await _infer(plane, ctx, task, model, {name: _numbers(*given)}, said)
    return _plain(answer.tensors)


def route(plane: DataPlane, ctx: bentoml.Context, body: dict[str, Any]) -> dict[str, Any]:
    """See ``RouteApi.route``."""
    try:
        return NativeProtocol(plane).decide(body, _headers(ctx))
    except TurnoutError as error:
        raise _Failed(error) from None


async def pipeline(
    plane: DataPlane, ctx: bentoml.Context, name: str, body: dict[str, Any]
) -> dict[str, Any]:
    """See ``PipelineApi.pipeline``."""
    from services.protocols.pipelines import PipelineProtocol, native_json

    try:
        if name not in plane.catalog.pipelines:
            raise UnknownRoute(name, tuple(plane.catalog.pipelines))
        composed = await PipelineProtocol(plane).answer(name, body, _headers(ctx))
    except TurnoutError as error:
        raise _Failed(error) from None
    return native_json(name, composed)


def _numbers(name: str, value: object, dtype: type, axes: int) -> np.ndarray[Any, Any]:
    try:
        return np.array(value, dtype=dtype, ndmin=axes)
    except (TypeError, ValueError, OverflowError) as error:
        raise _Failed(InvalidRequest(f"{name} must be numbers: {error}", param=name)) from None


def _plain(tensors: Tensors) -> dict[str, Any]:
    return {
        name: [value.decode(errors="replace") for value in tensor]
        if tensor.dtype == object
        else tensor.tolist()
        for name, tensor in tensors.items()
    }


async def _infer(
    plane: DataPlane,
    ctx: bentoml.Context,
    task: Task,
    model: str,
    tensors: Tensors,
    said: _Said,
) -> Answer:
    now_s = plane.clock()
    try:
        signature = options.signature_for(plane.catalog, model, task)
        request = options.request(
            plane, model, task, check(signature, tensors), _options(ctx, *said), now_s
        )
        answer = await plane.infer(request)
    except TurnoutError as error:
        raise _Failed(error) from None
    _say(ctx, decision_headers(answer))
    return answer


def _options(
    ctx: bentoml.Context, latency_class: str | None, deadline_ms: float | None
) -> options.RoutingOptions:
    said = {"latency_class": latency_class, "deadline_ms": deadline_ms}
    return options.read(_headers(ctx), {k: v for k, v in said.items() if v is not None})


def _headers(ctx: bentoml.Context) -> dict[bytes, bytes]:
    return {
        name.lower().encode("latin-1"): value.encode("latin-1")
        for name, value in ctx.request.headers.items()
    }


def _say(ctx: bentoml.Context, headers: Headers) -> None:
    for name, value in headers:
        ctx.response.headers[name.decode("latin-1")] = value.decode("latin-1")
