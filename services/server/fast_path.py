"""Answers short requests at the socket, or refuses them there.

A model that takes microseconds costs less than the framework around it: uvicorn's parser, scope,
task and response take as long as the rest of such a request, and under overload a refusal that
takes that way costs too much of an answer. A ``FastPathProtocol`` stands between a connection's
transport and uvicorn's protocol from the second request of the connection on. Bytes that are one
whole short request between two others are answered here: by the handler, or with 503 while
admission is closed. Everything else goes through untouched. While it answers, it puts a cycle of
its own in the place of uvicorn's, so that pipelining, keep-alive and shutdown stay uvicorn's
business. Under
another server than uvicorn with httptools there is no gate, and requests take the normal way (see
docs/decisions/0034-answers-at-the-socket.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.http.messages import HttpRequest, Reply, Route
from services.http.uvicorn_write import Send
from services.server.admission import Admission
from services.server.http1 import Head, head_of, written
from turnout.errors import Overloaded

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # uvicorn without httptools: nothing to stand before
    HttpToolsProtocol = None

logger = logging.getLogger("turnout.gate")

MOST_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class FastPath:
    """What the gates of one front door share.

    Attributes:
        door: says who may come in.
        short: the route of a short request's path; None for every other path.
        reply: answers a request of such a route.
        limit_bytes: the largest body that a request may have now.
    """

    door: Admission
    short: Callable[[str], Route | None]
    reply: Callable[[Route, HttpRequest], Awaitable[Reply]]
    limit_bytes: Callable[[], int] = lambda: MOST_BODY


class _Turn:
    """Stands in uvicorn's protocol for the cycle of a request that is answered here."""

    __slots__ = ("disconnected", "keep_alive", "response_complete", "scope")

    more_body = False
    message_event = asyncio.Event()  # nobody waits for it

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False


class FastPathProtocol(asyncio.Protocol):
    """Before uvicorn's protocol of one connection.

    Args:
        inner: uvicorn's protocol.
        transport: the connection.
        lane: what is answered here, and how.
    """

    __slots__ = ("_answering", "_held", "_inner", "_lane", "_loop", "_transport", "_turn")

    def __init__(self, inner: Any, transport: Any, lane: FastPath) -> None:
        self._inner = inner
        self._transport = transport
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._turn: _Turn | None = None
        self._answering: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Answer data here, hold it until its request is whole, or pass it on."""
        if self._held:
            data, self._held = self._held + data, b""
        if self._between_requests():
            head = head_of(data)
            route = None if head is None else self._lane.short(head.path)
            if head is not None and route is not None and self._takes(head.length):
                missing = head.size + head.length - len(data)
                if missing >= 0:
                    self._inner._unset_keepalive_if_required()
                    if missing:
                        self._held = data
                    else:
                        self._take(route, head, data)
                    return
        self._count()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on, after what was held."""
        self._let_go()
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and end the work that nobody waits for any more."""
        self._held = b""
        self._inner.connection_lost(exc)
        if self._turn is not None and self._answering is not None:
            self._turn.disconnected = True
            self._answering.cancel()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def _takes(self, size_bytes: int) -> bool:
        """Whether a body may come in here, and the client reads what it is sent."""
        fits = size_bytes <= min(MOST_BODY, self._lane.limit_bytes())
        return fits and not self._inner.flow.write_paused

    def _let_go(self) -> None:
        data, self._held = self._held, b""
        if data:
            self._count()
            self._inner.data_received(data)

    def _count(self) -> None:
        door = self._lane.door
        if door.arrive():
            self._loop.call_soon(door.begin_turn)

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

    def _take(self, route: Route, head: Head, data: bytes) -> None:
        """Answer one whole request, or refuse it."""
        door = self._lane.door
        if door.crowded:
            said = head.headers.get(b"x-latency-class")
            if not door.admits(said.decode("latin-1") if said else route.short or ""):
                door.refuse()
                self._transport.write(_refusal(route.on_error, door.retry_after_s))
                self._inner.on_response_complete()
                return
        inner = self._inner
        turn = self._turn = inner.cycle = _Turn(inner.scope)
        self._count()
        http = HttpRequest("POST", head.path, head.headers, data[head.size :])
        task = self._loop.create_task(self._answer(route, http, turn))
        inner.tasks.add(task)  # uvicorn waits for these when it stops
        task.add_done_callback(inner.tasks.discard)
        self._answering = task

    async def _answer(self, route: Route, http: HttpRequest, turn: _Turn) -> None:
        door, inner = self._lane.door, self._inner
        entered_s = door.enter()
        try:
            reply = await self._lane.reply(route, http)
            if inner.flow.write_paused:
                await inner.flow.drain()
            if not turn.disconnected:
                self._write(reply, turn)
        except asyncio.CancelledError:
            if not turn.disconnected:
                raise
        except Exception:
            logger.exception("%s %s could not be answered", http.method, http.path)
            self._transport.close()
        finally:
            self._turn = self._answering = None
            door.leave(entered_s)

    def _write(self, reply: Reply, turn: _Turn) -> None:
        inner = self._inner
        closes = (b"connection", b"close") in reply.headers
        if not (closes or turn.keep_alive):  # the server has begun to stop
            reply.headers.append((b"connection", b"close"))
            closes = True
        self._transport.write(written(reply, inner.server_state.default_headers))
        turn.response_complete, turn.keep_alive = True, not closes
        if closes:
            self._transport.close()
        inner.on_response_complete()


def overloaded(retry_after_s: float) -> Overloaded:
    """What a request is told that was refused at the door."""
    return Overloaded(
        f"more requests arrive than can be answered in time; retry in {retry_after_s:g} s",
        retry_after_s=retry_after_s,
    )


def install_fast_path(send: Send, lane: FastPath) -> None:
    """Put a gate on the connection that this ``send`` answers on, if there is none yet."""
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None or HttpToolsProtocol is None:
        return
    inner = transport.get_protocol()
    if type(inner) is HttpToolsProtocol and not _watched(inner):
        transport.set_protocol(FastPathProtocol(inner, transport, lane))


def _watched(inner: Any) -> bool:
    """Whether uvicorn was asked to log requests or to bound them, and so must see each."""
    logs = inner.access_log and inner.access_logger.isEnabledFor(logging.INFO)
    return logs or inner.limit_concurrency is not None


@lru_cache(maxsize=128)
def _refusal(on_error: Callable[[Exception], Reply], retry_after_s: float) -> bytes:
    return written(on_error(overloaded(retry_after_s)))
