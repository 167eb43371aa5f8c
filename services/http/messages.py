"""HTTP requests and replies directly on ASGI, for every protocol adapter.

No framework: this is the hot path. A handler takes an ``HttpRequest`` and returns a ``Reply``; this
module reads the body within its limit, notices that the client has left, and sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from services.http.uvicorn_write import Send, send_together
from turnout.errors import InvalidRequest, PayloadTooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")

_PATIENCE_S = 0.02
_GONE = "the client left"
JSON = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


@dataclass(slots=True)
class HttpRequest:
    """A request: ``headers`` has lower-case names, ``body`` is complete.

    ``pieces`` is the body as it arrives, for the routes that stream; ``body`` is empty then.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    query: bytes = b""
    pieces: AsyncIterator[bytes] | None = None

    def header(self, name: bytes) -> str | None:
        """Return a header's text, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(slots=True)
class Reply:
    """An answer; ``body`` is bytes, or an iterator of chunks for a stream."""

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""


Handler = Callable[..., Coroutine[Any, Any, Reply]]
"""Answers an ``HttpRequest``; names in its path come as keywords."""


def json_reply(value: object, status: int = 200, headers: Headers | None = None) -> Reply:
    """Return a JSON reply."""
    return Reply(status, [JSON, *(headers or [])], orjson.dumps(value))


def json_object(http: HttpRequest) -> dict[str, Any]:
    """Parse the body as a JSON object.

    Raises:
        InvalidRequest: the body is no JSON, or no object.
    """
    try:
        value = orjson.loads(http.body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """Read a request's body.

    Raises:
        PayloadTooLarge: it, or its announced length, is larger than ``limit_bytes``.
        ClientGone: the client left before sending all of it.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
    return b"".join(parts)


async def body_pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a request's body as it arrives.

    Raises:
        ClientGone: the client left before sending all of it.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if piece := message.get("body", b""):
            yield piece
        more = message.get("more_body", False)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a reply; a stream goes out chunk by chunk."""
    body = reply.body
    if isinstance(body, bytes):
        reply.headers.append((b"content-length", b"%d" % len(body)))
        head = {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        await send_together(send, head, {"type": "http.response.body", "body": body})
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    try:
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    await send({"type": "http.response.body", "body": b""})


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``; cancel it when the client leaves first.

    Watching begins after ``_PATIENCE_S``: most answers are out by then, and it takes a task.

    Raises:
        ClientGone: the client left.
    """
    loop = asyncio.get_running_loop()
    working = asyncio.current_task()
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        await _disconnected(receive)
        if working is not None:
            working.cancel(_GONE)

    timer = loop.call_later(_PATIENCE_S, lambda: watching.append(loop.create_task(watch())))
    try:
        return await work
    except asyncio.CancelledError as error:
        if error.args != (_GONE,):
            raise
        if working is not None:
            working.uncancel()
        raise ClientGone from None
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
