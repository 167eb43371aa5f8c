"""Refuses, at the socket, requests that could not be answered in time.

Under overload a refusal through uvicorn and ASGI costs a third of an answer; from the raw bytes it
costs a twentieth, and that is the difference between a server that keeps its throughput at three
times its load and one that only refuses. A ``Gate`` stands between a connection's transport and
uvicorn's protocol from the second request of the connection on. It passes everything on untouched
unless the door is full *and* the bytes are one whole short request between two others; then it
answers by itself. Under another server than uvicorn with httptools there is no gate, and refusals
take the normal way (see docs/decisions/0034-refusal-at-the-socket.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from services.corking import Send
from services.door import Door
from services.http import Reply
from turnout.errors import Overloaded

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # uvicorn without httptools: nothing to stand before
    HttpToolsProtocol = None

_KEEP_ALIVE_S = 2.0
_PHRASES = {429: b"Too Many Requests", 503: b"Service Unavailable"}

Short = Callable[[bytes], "tuple[str, Callable[[Exception], Reply]] | None"]


class Gate(asyncio.Protocol):
    """Before uvicorn's protocol of one connection.

    Args:
        inner: uvicorn's protocol.
        transport: the connection.
        door: says who may come in.
        short: the class and the form of errors of a short request's path; None for other paths.
    """

    __slots__ = ("_door", "_inner", "_loop", "_passed_s", "_short", "_transport")

    def __init__(self, inner: Any, transport: Any, door: Door, short: Short) -> None:
        self._inner = inner
        self._transport = transport
        self._door = door
        self._short = short
        self._loop = asyncio.get_running_loop()
        self._passed_s = door.turn_s

    def data_received(self, data: bytes) -> None:
        """Pass data on, or answer it here."""
        door = self._door
        if door.crowded and self._refused(data):
            return
        if door.arrive():
            self._loop.call_soon(door.begin_turn)
        self._passed_s = door.turn_s
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def _refused(self, data: bytes) -> bool:
        door = self._door
        # uvicorn closes a connection on which it sees nothing for some seconds: show it some.
        if door.turn_s - self._passed_s > _KEEP_ALIVE_S or not self._between_requests():
            return False
        request = whole_request(data)
        found = request and self._short(request[0])
        if not request or not found:
            return False
        latency_class, on_error = found
        if door.admits(request[1] or latency_class):
            return False
        door.refuse()
        self._transport.write(_refusal(on_error, door.retry_after_s))
        return True

    def _between_requests(self) -> bool:
        """Whether uvicorn has read and answered all that came before."""
        cycle = self._inner.cycle
        return (
            cycle is not None
            and cycle.response_complete
            and cycle.keep_alive
            and not cycle.more_body
            and cycle.scope is self._inner.scope
        )


def whole_request(data: bytes) -> tuple[bytes, str] | None:
    """The path and ``x-latency-class`` of data that is exactly one POST; None when it is not."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith(b"POST "):
        return None
    head = data[:end].lower()
    length = _header(head, b"\r\ncontent-length:")
    if not length.isdigit() or end + 4 + int(length) != len(data):
        return None
    path = data[5 : data.find(b" ", 5)]
    return path, _header(head, b"\r\nx-latency-class:").decode("latin-1")


def overloaded(retry_after_s: float) -> Overloaded:
    """What a request is told that was refused at the door."""
    return Overloaded(
        f"more requests arrive than can be answered in time; retry in {retry_after_s:g} s",
        retry_after_s=retry_after_s,
    )


def raw(reply: Reply) -> bytes:
    """A reply as bytes on the wire."""
    body = reply.body if isinstance(reply.body, bytes) else b""
    lines = [
        b"HTTP/1.1 %d %s" % (reply.status, _PHRASES.get(reply.status, b"Refused")),
        *(name + b": " + value for name, value in reply.headers),
        b"content-length: %d" % len(body),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def stand_before(send: Send, door: Door, short: Short) -> None:
    """Put a gate on the connection that this ``send`` answers on, if there is none yet."""
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None or HttpToolsProtocol is None:
        return
    inner = transport.get_protocol()
    if type(inner) is HttpToolsProtocol:
        transport.set_protocol(Gate(inner, transport, door, short))


@lru_cache(maxsize=128)
def _refusal(on_error: Callable[[Exception], Reply], retry_after_s: float) -> bytes:
    return raw(on_error(overloaded(retry_after_s)))


def _header(head: bytes, name: bytes) -> bytes:
    at = head.find(name)
    if at < 0:
        return b""
    at += len(name)
    end = head.find(b"\r\n", at)
    return head[at : end if end >= 0 else len(head)].strip()
