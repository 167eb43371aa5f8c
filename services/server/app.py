"""The gateway's ASGI application: it answers the route table's paths, BentoML the others.

BentoML's own stack costs several times what a small model does; a request that is answered
before it enters that stack costs little more than bare uvicorn (see docs/decisions/0001).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from services.http.messages import (
    ClientGone,
    Headers,
    HttpRequest,
    Receive,
    Scope,
    Send,
    body_pieces,
    read_body,
    send_reply,
    until_gone,
)
from services.server.auth import check_operator
from services.server.dispatcher import Dispatcher
from services.server.fast_path import install_fast_path
from turnout.errors import Forbidden

if TYPE_CHECKING:
    from services.batch_api.service import BatchService
    from services.dataplane.data_plane import DataPlane
    from services.server.access_log import AccessLog
    from services.server.routes import Route

App = Callable[[Scope, Receive, Send], Any]


class GatewayApp:
    """Answers the paths of one plane and passes the others to BentoML.

    Args:
        plane: the data plane; a callable because BentoML makes the instance only at start-up.
        rest: BentoML's application.
        access_log: gets every answer; None keeps no log.
        bulk: the batch API, where there is one.

    Attributes:
        dispatcher: answers the requests; None until there is a plane.
    """

    def __init__(
        self,
        plane: Callable[[], DataPlane | None],
        rest: App,
        access_log: AccessLog | None = None,
        bulk: Callable[[], BatchService | None] = lambda: None,
    ) -> None:
        self._plane = plane
        self._rest = rest
        self._access_log = access_log
        self._bulk = bulk
        self.dispatcher: Dispatcher | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event (HTTP request, lifespan)."""
        dispatcher = self.dispatcher or self._open()
        if scope["type"] != "http" or dispatcher is None:
            await self._rest(scope, receive, send)
            return
        # A HEAD is answered as its GET; the server leaves the body out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        route = dispatcher.routes.find(method, scope["path"])
        if route is None:
            refusal = dispatcher.routes.refusal(scope["method"], scope["path"])
            if refusal is None:
                await self._rest(scope, receive, send)
            else:
                await send_reply(send, refusal)
            return
        try:
            if route.operator:
                check_operator(scope)
        except Forbidden as error:
            await send_reply(send, route.on_error(error))
            return
        with suppress(ClientGone):
            if route.short is None:
                await _answer(dispatcher, route, scope, receive, send)
            else:
                await _answer_short(dispatcher, route, scope, receive, send)

    def _open(self) -> Dispatcher | None:
        plane = self._plane()
        if plane is not None:
            self.dispatcher = Dispatcher(plane, self._bulk(), self._access_log)
        return self.dispatcher


async def _answer_short(
    dispatcher: Dispatcher, route: Route, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a short request if admitted; its connection's next ones take the fast path."""
    admission = dispatcher.admission
    if not dispatcher.admits(route, _class_header(scope["headers"])):
        install_fast_path(send, dispatcher)
        await send_reply(send, route.on_error(admission.overloaded()))
        return
    if not admission.beginning:
        install_fast_path(send, dispatcher)
    entered_s = admission.enter()
    try:
        await _answer(dispatcher, route, scope, receive, send)
    finally:
        admission.leave(entered_s)


async def _answer(
    dispatcher: Dispatcher, route: Route, scope: Scope, receive: Receive, send: Send
) -> None:
    http = HttpRequest(
        scope["method"],
        scope["path"],
        dict(scope["headers"]),
        b"",
        scope.get("query_string", b""),
    )
    if route.streams:
        http.pieces = body_pieces(receive)
        await _run(dispatcher, route, http, send)
        return
    try:
        http.body = await read_body(scope, receive, dispatcher.max_body)
    except ClientGone:
        raise
    except Exception as error:  # noqa: BLE001 - the adapter turns every error into a reply
        reply = route.on_error(error)
        reply.headers.append((b"connection", b"close"))
        await send_reply(send, reply)
        return
    # A short request ends before its client could leave, unless the server is crowded.
    if route.cancel_on_disconnect and (route.short is None or dispatcher.admission.crowded):
        await until_gone(receive, _run(dispatcher, route, http, send))
    else:
        await _run(dispatcher, route, http, send)


async def _run(dispatcher: Dispatcher, route: Route, http: HttpRequest, send: Send) -> None:
    began_s = time.monotonic()
    reply = await dispatcher.answer(route, http)
    await send_reply(send, reply)
    if dispatcher.access_log is not None:
        dispatcher.access_log.add(http, reply, time.monotonic() - began_s)


def _class_header(headers: Headers) -> bytes | None:
    for name, value in headers:
        if name == b"x-latency-class":
            return value
    return None
