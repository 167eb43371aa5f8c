"""The handlers of the BentoML APIs; imported by the first call, not while services start."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException

from services.dataplane.data_plane import DataPlane
from services.http.messages import Headers
from services.protocols.errors import status_of
from services.protocols.native import NativeProtocol
from services.protocols.openai_schema import chat_body
from services.protocols.pipelines import PipelineProtocol, native_json
from services.protocols.response_headers import decision_headers
from services.protocols.routing_options import (
    RoutingOptions,
    new_request,
    read_options,
    signature_for,
)
from services.protocols.tensor_inputs import check
from turnout.errors import InvalidRequest, TurnoutError, UnknownRoute
from turnout.types import Task, Tensors, TensorSpec

_CANCELLED = 499


class _Failed(BentoMLException):
    """One of our errors as BentoML reports it: the status and the message, no traceback."""

    is_answered = True  # see services/bento/log_filter.py

    def __init__(self, error: TurnoutError) -> None:
        super().__init__(str(error))
        status = status_of(error)
        self.error_code = HTTPStatus(503 if status == _CANCELLED else status)


async def chat(
    plane: DataPlane,
    ctx: bentoml.Context,
    body: dict[str, Any],
    latency_class: str | None,
    deadline_ms: float | None,
) -> dict[str, Any]:
    """See ``ChatApi.chat``."""
    now_s = plane.clock()
    try:
        generation = chat_body(body).generation()
        options = _options(ctx, latency_class, deadline_ms)
        request = new_request(plane, body["model"], Task.CHAT, generation, options, now_s)
        stream = await plane.generate(request)
        pieces = [piece async for piece in stream.pieces]
    except TurnoutError as error:
        raise _Failed(error) from None
    _add_headers(ctx, decision_headers(stream))
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


async def infer(
    plane: DataPlane,
    ctx: bentoml.Context,
    task: Task,
    model: str,
    inputs: Mapping[str, Any],
    latency_class: str | None,
    deadline_ms: float | None,
) -> dict[str, Any]:
    """Answer an API that takes tensors: the task's outputs, as lists by name."""
    now_s = plane.clock()
    try:
        signature = signature_for(plane.catalog, model, task)
        tensors = check(
            signature, {spec.name: _tensor(spec, inputs[spec.name]) for spec in signature.inputs}
        )
        options = _options(ctx, latency_class, deadline_ms)
        request = new_request(plane, model, task, tensors, options, now_s)
        answer = await plane.infer(request)
    except TurnoutError as error:
        raise _Failed(error) from None
    _add_headers(ctx, decision_headers(answer))
    return _lists(answer.tensors)


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
    try:
        if name not in plane.catalog.pipelines:
            raise UnknownRoute(name, tuple(plane.catalog.pipelines))
        result = await PipelineProtocol(plane).answer(name, body, _headers(ctx))
    except TurnoutError as error:
        raise _Failed(error) from None
    return native_json(name, result)


def _tensor(spec: TensorSpec, value: Any) -> np.ndarray[Any, Any]:
    """A parameter of an API as a tensor: files and texts as bytes, numbers as they are.

    Raises:
        InvalidRequest: the value is not numbers.
    """
    if spec.datatype == "BYTES":
        return np.array([_bytes(each) for each in value], dtype=object)
    dtype = np.int64 if spec.datatype == "INT64" else np.float32
    try:
        return np.array(value, dtype=dtype, ndmin=len(spec.shape))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{spec.name} must be numbers: {error}", param=spec.name) from None


def _bytes(value: str | Path) -> bytes:
    return value.read_bytes() if isinstance(value, Path) else value.encode()


def _lists(tensors: Tensors) -> dict[str, Any]:
    return {
        name: [value.decode(errors="replace") for value in tensor]
        if tensor.dtype == object
        else tensor.tolist()
        for name, tensor in tensors.items()
    }


def _options(
    ctx: bentoml.Context, latency_class: str | None, deadline_ms: float | None
) -> RoutingOptions:
    routing = {"latency_class": latency_class, "deadline_ms": deadline_ms}
    return read_options(_headers(ctx), {k: v for k, v in routing.items() if v is not None})


def _headers(ctx: bentoml.Context) -> dict[bytes, bytes]:
    return {
        name.lower().encode("latin-1"): value.encode("latin-1")
        for name, value in ctx.request.headers.items()
    }


def _add_headers(ctx: bentoml.Context, headers: Headers) -> None:
    for name, value in headers:
        ctx.response.headers[name.decode("latin-1")] = value.decode("latin-1")
