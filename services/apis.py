"""The BentoML APIs, one mixin a task, as BentoML's own HTTP clients discover them.

They take BentoML's normal path (discovery, schema, multipart files); the same plane answers.
"""

# BentoML reads these annotations at run time, so no ``from __future__ import annotations`` here.
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, List, Optional  # noqa: UP035 - BentoML needs List for multipart files

import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException

from services.http import Headers
from services.plane import Answer, Plane
from services.protocols import options
from services.protocols.answer import decision_headers
from services.protocols.chat_schema import chat_body
from services.protocols.errors import status_of
from services.protocols.native import Native
from services.protocols.open_inference import check
from turnout.errors import InvalidRequest, TurnoutError
from turnout.types import Task, Tensors


class _Failed(BentoMLException):
    """One of our errors as BentoML reports it: the status and the message, no traceback."""

    def __init__(self, error: TurnoutError) -> None:
        super().__init__(str(error))
        self.error_code = HTTPStatus(status_of(error) if status_of(error) != 499 else 503)


class ChatApi:
    """``chat``: a conversation in, an answer out."""

    plane: Plane

    @bentoml.api
    async def chat(
        self,
        ctx: bentoml.Context,
        messages: List[dict[str, Any]],  # noqa: UP006
        model: str = "auto",
        max_tokens: int = 256,
        temperature: float = 0.0,
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Answer a conversation: ``{"text", "model", "decision_id", "usage"}``."""
        now_s = self.plane.clock()
        try:
            body = chat_body(
                {
                    "model": model,
                    "messages": messages,
                    "max_tokens": max_tokens,
                    "temperature": temperature,
                }
            )
            said = _options(ctx, latency_class, deadline_ms)
            request = options.request(self.plane, model, Task.CHAT, body.generation(), said, now_s)
            stream = await self.plane.generate(request)
            pieces = [piece async for piece in stream.pieces]
        except TurnoutError as error:
            raise _Failed(error) from None
        _say(ctx, decision_headers(stream.decision, stream.model))
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


class ImageApi:
    """``classify``: encoded images in, ImageNet classes out."""

    plane: Plane

    @bentoml.api
    async def classify(
        self,
        ctx: bentoml.Context,
        image: List[Path],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Classify n JPEG or PNG files: ``class_id`` [n], ``class_name`` [n], ``score`` [n]."""
        tensor = np.array([path.read_bytes() for path in image], dtype=object)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.IMAGE, model, {"image": tensor}, said)
        found = answer.tensors
        return {
            "class_id": found["class_id"].tolist(),
            "class_name": [name.decode() for name in found["class_name"]],
            "score": found["score"].tolist(),
        }


class TabularApi:
    """``score``: rows of features in, probabilities out."""

    plane: Plane

    @bentoml.api
    async def score(
        self,
        ctx: bentoml.Context,
        features: np.ndarray,
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Score n transactions of 15 features: ``probability`` [n]."""
        try:
            rows = np.atleast_2d(np.asarray(features, dtype=np.float32))
        except (TypeError, ValueError) as error:
            message = f"features must be n rows of 15 numbers: {error}"
            raise _Failed(InvalidRequest(message)) from None
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.TABULAR, model, {"features": rows}, said)
        return {"probability": answer.tensors["probability"].tolist()}


class EmbedApi:
    """``embed``: sentences in, vectors out."""

    plane: Plane

    @bentoml.api
    async def embed(
        self,
        ctx: bentoml.Context,
        text: List[str],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Embed n sentences: ``embedding`` [n, 384]."""
        tensor = np.array([item.encode() for item in text], dtype=object)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.EMBED, model, {"text": tensor}, said)
        return {"embedding": answer.tensors["embedding"].tolist()}


class ClassifyTextApi:
    """``classify_text``: texts in, labels out."""

    plane: Plane

    @bentoml.api
    async def classify_text(
        self,
        ctx: bentoml.Context,
        text: List[str],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Classify n texts: ``label`` [n], ``score`` [n]."""
        tensor = np.array([item.encode() for item in text], dtype=object)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.CLASSIFY_TEXT, model, {"text": tensor}, said)
        return _plain(answer.tensors)


class RankApi:
    """``rank``: rows of features in, scores to sort by out."""

    plane: Plane

    @bentoml.api
    async def rank(
        self,
        ctx: bentoml.Context,
        features: np.ndarray,
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Score n candidates: ``score`` [n], higher is better."""
        rows = _numbers("features", features, np.float32, 2)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.RANK, model, {"features": rows}, said)
        return _plain(answer.tensors)


class RecommendApi:
    """``recommend``: users in, items out."""

    plane: Plane

    @bentoml.api
    async def recommend(
        self,
        ctx: bentoml.Context,
        user: List[int],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Items for n users: ``item``, ``score`` [n, top], ``features`` [n, top, columns]."""
        tensor = _numbers("user", user, np.int64, 1)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.RECOMMEND, model, {"user": tensor}, said)
        return _plain(answer.tensors)


class RetrieveApi:
    """``retrieve``: vectors in, nearest items out."""

    plane: Plane

    @bentoml.api
    async def retrieve(
        self,
        ctx: bentoml.Context,
        embedding: np.ndarray,
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """The items nearest to n vectors; see ``recommend``."""
        rows = _numbers("embedding", embedding, np.float32, 2)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.RETRIEVE, model, {"embedding": rows}, said)
        return _plain(answer.tensors)


class LookupApi:
    """``lookup``: items in, what is known of them out."""

    plane: Plane

    @bentoml.api
    async def lookup(
        self,
        ctx: bentoml.Context,
        item: List[int],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Describe n items: ``text`` [n]."""
        tensor = _numbers("item", item, np.int64, 1)
        said = (latency_class, deadline_ms)
        answer = await _infer(self.plane, ctx, Task.LOOKUP, model, {"item": tensor}, said)
        return _plain(answer.tensors)


class RouteApi:
    """``route``: which model would answer, and why, without running it."""

    plane: Plane

    @bentoml.api
    async def route(
        self,
        ctx: bentoml.Context,
        inputs: dict[str, Any],
        route: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
        max_cost_usd: Optional[float] = None,  # noqa: UP045
        min_quality: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Decide: the same body and answer as ``POST /v1/route``."""
        body = {
            "route": route,
            "inputs": inputs,
            "latency_class": latency_class,
            "deadline_ms": deadline_ms,
            "max_cost_usd": max_cost_usd,
            "min_quality": min_quality,
        }
        try:
            return Native(self.plane).decide(body, _headers(ctx))
        except TurnoutError as error:
            raise _Failed(error) from None


API_OF: Mapping[Task, type] = {
    Task.CHAT: ChatApi,
    Task.IMAGE: ImageApi,
    Task.TABULAR: TabularApi,
    Task.EMBED: EmbedApi,
    Task.CLASSIFY_TEXT: ClassifyTextApi,
    Task.RANK: RankApi,
    Task.RECOMMEND: RecommendApi,
    Task.RETRIEVE: RetrieveApi,
    Task.LOOKUP: LookupApi,
}


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
    plane: Plane,
    ctx: bentoml.Context,
    task: Task,
    model: str,
    tensors: Tensors,
    said: tuple[str | None, float | None],
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
    _say(ctx, decision_headers(answer.decision, answer.model))
    return answer


def _options(
    ctx: bentoml.Context, latency_class: str | None, deadline_ms: float | None
) -> options.Options:
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
