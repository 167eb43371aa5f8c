"""The OpenAI API: chat completions (plain and streamed), embeddings, models.

Source: the OpenAI API reference; a stream is server-sent events ending in ``data: [DONE]``.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from services.dataplane.answer import Answer, Stream
from services.dataplane.data_plane import DataPlane
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from services.protocols import errors
from services.protocols.openai_schema import ChatBody, chat_body, embeddings_body
from services.protocols.response_headers import decision_headers
from services.protocols.routing_options import new_request, read_options
from turnout.errors import TurnoutError, UnknownModel
from turnout.types import Piece, Task, Tensors, TokenChance

_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class OpenAIProtocol:
    """The OpenAI adapter over one plane.

    Args:
        plane: answers the requests.
        started_at: Unix time reported as the models' creation.
    """

    def __init__(self, plane: DataPlane, started_at: int = 0) -> None:
        self._plane = plane
        self._started_at = started_at

    async def models(self, http: HttpRequest) -> Reply:
        """``GET /v1/models``: ``auto``, every route, every model."""
        return json_reply({"object": "list", "data": [self._model(name) for name in self._names()]})

    async def model(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/models/{name}``: one route or model."""
        if name not in self._names() and self._plane.catalog.model_called(name) is None:
            raise UnknownModel(name, self._names())
        return json_reply(self._model(name))

    def _names(self) -> tuple[str, ...]:
        catalog = self._plane.catalog
        return ("auto", *catalog.routes, *catalog.pipelines, *catalog.versioned, *catalog.models)

    async def chat(self, http: HttpRequest) -> Reply:
        """``POST /v1/chat/completions``: a chat answer, whole or streamed."""
        body, stream = await self._begin(json_object(http), http.headers)
        headers = decision_headers(stream)
        if body.stream:
            return Reply(200, [*_SSE, *headers], _events(stream, body))
        return json_reply(await _completion(stream, body), 200, headers)

    async def chat_document(
        self, document: dict[str, Any], headers: Mapping[bytes, bytes]
    ) -> tuple[Stream, dict[str, Any]]:
        """Answer a chat body of JSON values, unstreamed."""
        body, stream = await self._begin(document, headers)
        return stream, await _completion(stream, body)

    async def embeddings(self, http: HttpRequest) -> Reply:
        """``POST /v1/embeddings``: the embeddings of texts."""
        answer, document = await self.embeddings_document(json_object(http), http.headers)
        return json_reply(document, 200, decision_headers(answer))

    async def embeddings_document(
        self, document: dict[str, Any], headers: Mapping[bytes, bytes]
    ) -> tuple[Answer, dict[str, Any]]:
        """Answer an embeddings body of JSON values."""
        now_s = self._plane.clock()
        body = embeddings_body(document)
        texts = [body.input] if isinstance(body.input, str) else body.input
        tensors = {"text": np.array([text.encode() for text in texts], dtype=object)}
        options = read_options(headers, body.routing)
        answer = await self._plane.infer(
            new_request(self._plane, body.model, Task.EMBED, tensors, options, now_s)
        )
        words = sum(len(text.split()) for text in texts)
        return answer, {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(_vectors(answer.tensors, body.encoding_format))
            ],
            "model": answer.model,
            "usage": {"prompt_tokens": words, "total_tokens": words},
        }

    async def _begin(
        self, document: dict[str, Any], headers: Mapping[bytes, bytes]
    ) -> tuple[ChatBody, Stream]:
        """Read a chat body and begin its answer."""
        now_s = self._plane.clock()
        body = chat_body(document)
        request = new_request(
            self._plane,
            body.model,
            Task.CHAT,
            body.generation(),
            read_options(headers, body.routing),
            now_s,
            streamed=bool(body.stream),
        )
        return body, await self._plane.generate(request)

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started_at, "owned_by": "turnout"}


def _vectors(tensors: Tensors, encoding: str) -> Iterator[object]:
    for row in tensors["embedding"]:
        if encoding == "base64":
            yield base64.b64encode(row.astype("<f4").tobytes()).decode()
        else:
            yield row.tolist()


async def _completion(stream: Stream, body: ChatBody) -> dict[str, Any]:
    """Return the whole answer, once it is written."""
    pieces = [piece async for piece in stream.pieces]
    choice: dict[str, Any] = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "".join(piece.text for piece in pieces),
            "refusal": None,
        },
        "logprobs": _logprobs(pieces) if body.logprobs else None,
        "finish_reason": pieces[-1].finish_reason or "stop",
    }
    return _head(stream, "chat.completion") | {"choices": [choice], "usage": _usage(pieces[-1])}


async def _events(stream: Stream, body: ChatBody) -> AsyncIterator[bytes]:
    """Yield the server-sent events of a stream; a late error is one more event."""
    head = _head(stream, "chat.completion.chunk")
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    extra = {"usage": None} if with_usage else {}
    yield _event(head | extra | {"choices": [_delta({"role": "assistant", "content": ""})]})
    last = Piece("")
    pieces = stream.pieces
    try:
        async for piece in pieces:
            last = piece
            if piece.text or piece.logprobs or piece.finish_reason is None:
                choice = _delta({"content": piece.text}, piece if body.logprobs else None)
                yield _event(head | extra | {"choices": [choice]})
    except TurnoutError as error:
        _, _, document = errors.openai_document(error)
        yield _event(document)
        return
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
    end = _delta({}) | {"finish_reason": last.finish_reason or "stop"}
    yield _event(head | extra | {"choices": [end]})
    if with_usage:
        yield _event(head | {"choices": [], "usage": _usage(last)})
    yield b"data: [DONE]\n\n"


def _head(stream: Stream, kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-" + stream.decision.id.removeprefix("req-"),
        "object": kind,
        "created": int(datetime.now(UTC).timestamp()),
        "model": stream.model,
        "system_fingerprint": None,
    }


def _delta(delta: dict[str, Any], piece: Piece | None = None) -> dict[str, Any]:
    logprobs = _logprobs([piece]) if piece else None
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _logprobs(pieces: list[Piece]) -> dict[str, Any]:
    content = [
        _chance(chance) | {"top_logprobs": [_chance(other) for other in chance.top]}
        for piece in pieces
        for chance in piece.logprobs
    ]
    return {"content": content, "refusal": None}


def _chance(chance: TokenChance) -> dict[str, Any]:
    """Return a token; ``bytes`` is exact even where the token is no whole characters."""
    return {
        "token": chance.token.decode(errors="replace"),
        "logprob": chance.logprob,
        "bytes": list(chance.token),
    }


def _usage(last: Piece) -> dict[str, Any]:
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.completion_tokens,
        "total_tokens": last.prompt_tokens + last.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": last.cached_tokens},
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
