"""Fast path: short requests are answered, or refused, at the socket.

A model that takes microseconds costs less than the framework around it: uvicorn's parser, scope,
task and response take as long as the rest of such a request, and a refusal on that path costs too
much under overload. A ``FastPathProtocol`` stands between a connection's transport and uvicorn's
protocol from the second request of the connection on. Bytes that are one whole short request
between two others are answered here: by the handler, or with 503 while admission is closed.
Everything else passes through unchanged. While it answers, a cycle of its own replaces uvicorn's,
so that uvicorn still handles pipelining, keep-alive and shutdown. Under other servers than uvicorn
with httptools there is no fast path (see docs/decisions/0034-answers-at-the-socket.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from services.http.messages import HttpRequest, Reply
from services.http.uvicorn_write import Send
from services.server.admission import overloaded
from services.server.http1 import Head, head_of, response_bytes

if TYPE_CHECKING:
    from services.server.dispatcher import Dispatcher
    from services.server.routes import ErrorShape, Route

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # uvicorn without httptools has no fast path
    HttpToolsProtocol = None

logger = logging.getLogger("turnout.fast_path")

MOST_BODY = 64 * 1024


class _Cycle:
    """Replaces uvicorn's request cycle while a request is answered here."""

    __slots__ = ("disconnected", "keep_alive", "response_complete", "scope")

    more_body = False
    message_event = asyncio.Event()  # no task waits for it

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False


class FastPathProtocol(asyncio.Protocol):
    """Answers short requests of one connection; passes the others to uvicorn's protocol.

    Args:
        inner: uvicorn's protocol.
        transport: the connection.
        dispatcher: finds the short requests, and answers them.
    """

    __slots__ = ("_answering", "_cycle", "_dispatcher", "_held", "_inner", "_loop", "_transport")

    def __init__(self, inner: Any, transport: Any, dispatcher: Dispatcher) -> None:
        self._inner = inner
        self._transport = transport
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._cycle: _Cycle | None = None
        self._answering: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Answer data here, hold it until its request is whole, or pass it on."""
        if self._held:
            data, self._held = self._held + data, b""
        if self._between_requests():
            head = head_of(data)
            route = None if head is None else self._dispatcher.routes.short.get(head.path)
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
        """Pass the held data and the end of the stream on."""
        self._flush_held()
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and cancel the answer that no client waits for."""
        self._held = b""
        self._inner.connection_lost(exc)
        if self._cycle is not None and self._answering is not None:
            self._cycle.disconnected = True
            self._answering.cancel()

    def pause_writing(self) -> None:
        """Pass the call on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass the call on."""
        self._inner.resume_writing()

    def _takes(self, size_bytes: int) -> bool:
        """Return whether a body fits in here, and the client reads its answers."""
        fits = size_bytes <= min(MOST_BODY, self._dispatcher.max_body)
        return fits and not self._inner.flow.write_paused

    def _flush_held(self) -> None:
        data, self._held = self._held, b""
        if data:
            self._count()
            self._inner.data_received(data)

    def _count(self) -> None:
        admission = self._dispatcher.admission
        if admission.arrive():
            self._loop.call_soon(admission.begin_turn)

    def _between_requests(self) -> bool:
        """Return whether uvicorn has read and answered all earlier requests."""
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
        dispatcher, inner = self._dispatcher, self._inner
        if not dispatcher.admits(route, head.headers.get(b"x-latency-class")):
            retry_after_s = dispatcher.admission.retry_after_s
            self._transport.write(_refusal(route.on_error, retry_after_s))
            inner.on_response_complete()
            return
        cycle = self._cycle = inner.cycle = _Cycle(inner.scope)
        self._count()
        http = HttpRequest("POST", head.path, head.headers, data[head.size :])
        task = self._loop.create_task(self._answer(route, http, cycle))
        inner.tasks.add(task)  # uvicorn waits for these when it stops
        task.add_done_callback(inner.tasks.discard)
        self._answering = task

    async def _answer(self, route: Route, http: HttpRequest, cycle: _Cycle) -> None:
        dispatcher, inner = self._dispatcher, self._inner
        admission = dispatcher.admission
        entered_s, began_s = admission.enter(), time.monotonic()
        try:
            reply = await dispatcher.answer(route, http)
            if inner.flow.write_paused:
                await inner.flow.drain()
            if not cycle.disconnected:
                self._write(reply, cycle)
            if dispatcher.access_log is not None:
                dispatcher.access_log.add(http, reply, time.monotonic() - began_s)
        except asyncio.CancelledError:
            if not cycle.disconnected:
                raise
        except Exception:
            logger.exception("%s %s could not be answered", http.method, http.path)
            self._transport.close()
        finally:
            self._cycle = self._answering = None
            admission.leave(entered_s)

    def _write(self, reply: Reply, cycle: _Cycle) -> None:
        inner = self._inner
        closes = (b"connection", b"close") in reply.headers
        if not (closes or cycle.keep_alive):  # the server has begun to stop
            reply.headers.append((b"connection", b"close"))
            closes = True
        self._transport.write(response_bytes(reply, inner.server_state.default_headers))
        cycle.response_complete, cycle.keep_alive = True, not closes
        if closes:
            self._transport.close()
        inner.on_response_complete()


def install_fast_path(send: Send, dispatcher: Dispatcher) -> None:
    """Install the fast path on the connection of ``send``, if it is not installed yet."""
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None or HttpToolsProtocol is None:
        return
    inner = transport.get_protocol()
    if type(inner) is HttpToolsProtocol and not _watched(inner):
        transport.set_protocol(FastPathProtocol(inner, transport, dispatcher))


def _watched(inner: Any) -> bool:
    """Return whether uvicorn logs or bounds requests, and so must process each."""
    logs = inner.access_log and inner.access_logger.isEnabledFor(logging.INFO)
    return logs or inner.limit_concurrency is not None


@lru_cache(maxsize=128)
def _refusal(on_error: ErrorShape, retry_after_s: float) -> bytes:
    return response_bytes(on_error(overloaded(retry_after_s)))
