"""The gateway's ASGI application: hot paths answered here, everything else by BentoML.

BentoML's own stack costs several times what a small model does; a request that is answered
before it enters that stack costs little more than bare uvicorn (see docs/decisions/0001).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from services.batch_api.service import BatchService
from services.dataplane.data_plane import DataPlane
from services.http.messages import (
    ClientGone,
    Headers,
    HttpRequest,
    Receive,
    Reply,
    Route,
    Scope,
    Send,
    body_pieces,
    read_body,
    send_reply,
    until_gone,
)
from services.protocols import errors
from services.protocols import routing_options as options
from services.protocols.native import NativeProtocol
from services.protocols.open_inference import ONLY, OpenInferenceProtocol
from services.protocols.openai import OpenAIProtocol
from services.protocols.repository import RepositoryProtocol
from services.protocols.triton import TritonProtocol
from services.protocols.versions import VersionsProtocol
from services.server import batch_routes as bulk_routes
from services.server.access_log import AccessLog
from services.server.admission import Admission, admission_terms
from services.server.auth import check_operator
from services.server.fast_path import FastPath, install_fast_path, overloaded
from turnout.catalog import model_name
from turnout.errors import Forbidden, MethodNotAllowed, Overloaded, UnknownPath
from turnout.types import Task

App = Callable[[Scope, Receive, Send], Any]

_MODEL = re.compile(
    r"^/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"
    r"(?:/(?P<verb>infer|ready|config|stats))?$"
)
_REPOSITORY = re.compile(
    r"^/v2/repository/models/(?P<name>[^/]+)"
    r"/(?P<verb>load|unload|pin|canary|promote|rollback)$"
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_NOTHING_FOREIGN = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"cache-control", b"no-store"),
)
_DECISION = "/v1/decisions/"
_LISTED = "/v1/models/"
_PIPELINE = "/v1/pipelines/"
_NAMED = {
    "/v1/": (f"{_DECISION}ID", f"{_LISTED}NAME"),
    "/v2/": ("/v2/models/NAME", "/v2/models/NAME/infer", "/v2/models/NAME/ready"),
}
"""Paths with a name in them, as a person is told of them."""


class GatewayApp:
    """Answers the hot paths of one plane and passes the rest on.

    Args:
        plane: the data plane; a callable because BentoML makes the instance only at start-up.
        rest: BentoML's application.
        access_log: told of every answer; None keeps no log.
        bulk: the bulk path, where there is one.
    """

    def __init__(
        self,
        plane: Callable[[], DataPlane | None],
        rest: App,
        access_log: AccessLog | None = None,
        bulk: Callable[[], BatchService | None] = lambda: None,
    ) -> None:
        self._bulk = bulk
        self._access_log = access_log
        self._plane = plane
        self._rest = rest
        self._routes: dict[tuple[str, str], Route] = {}
        self._native: NativeProtocol | None = None
        self._oip: OpenInferenceProtocol | None = None
        self._limit_bytes = 0
        self._door: Admission | None = None
        self._lane: FastPath | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event (HTTP request, lifespan)."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        if self._oip is None:
            self._open()
        # A HEAD is answered as its GET; the server leaves the body out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        route = self._routes.get((method, scope["path"])) or self._find(method, scope["path"])
        if route is None:
            method, path = scope["method"], scope["path"]
            wrong = self._wrong_method(method, path) or self._no_path(method, path)
            if wrong is not None:
                await send_reply(send, wrong)
            else:
                await self._rest(scope, receive, send)
            return
        door, lane = self._door, self._lane
        if route.short is None or door is None or lane is None:
            if route.operator:
                try:
                    check_operator(scope)
                except Forbidden as error:
                    await send_reply(send, route.on_error(error))
                    return
            with suppress(ClientGone):
                await self._answer(route, scope, receive, send)
            return
        if door.crowded and not door.admits(_class_of(scope["headers"]) or route.short):
            door.refuse()
            install_fast_path(send, lane)
            await send_reply(send, route.on_error(overloaded(door.retry_after_s)))
            return
        if not door.beginning:
            install_fast_path(send, lane)
        entered_s = door.enter()
        try:
            await self._answer(route, scope, receive, send)
        except ClientGone:
            return
        finally:
            door.leave(entered_s)

    def _short(self, path: str) -> Route | None:
        """The route of a short request's path; None for others."""
        route = self._routes.get(("POST", path))
        return None if route is None or route.short is None else route

    def _limit(self) -> int:
        return self._limit_bytes

    async def _answer_short(self, route: Route, http: HttpRequest) -> Reply:
        began_s = time.monotonic()
        reply = await self._reply(route, http)
        self._logged(http, reply, began_s)
        return reply

    async def _answer(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        method, path, query = scope["method"], scope["path"], scope.get("query_string", b"")
        if route.streams:
            headers = dict(scope["headers"])
            await self._run(
                route, HttpRequest(method, path, headers, b"", query, body_pieces(receive)), send
            )
            return
        try:
            body = await read_body(scope, receive, self._limit_bytes)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the adapter turns every error into a reply
            reply = route.on_error(error)
            reply.headers.append((b"connection", b"close"))
            await send_reply(send, reply)
            return
        http = HttpRequest(method, path, dict(scope["headers"]), body, query)
        # A short request is answered before anyone could leave, unless there is a crowd.
        door = self._door
        if route.watch and (route.short is None or door is None or door.crowded):
            await until_gone(receive, self._run(route, http, send))
        else:
            await self._run(route, http, send)

    async def _run(self, route: Route, http: HttpRequest, send: Send) -> None:
        began_s = time.monotonic()
        reply = await self._reply(route, http)
        await send_reply(send, reply)
        self._logged(http, reply, began_s)

    async def _reply(self, route: Route, http: HttpRequest) -> Reply:
        """What the handler answers, or the protocol's word for its error."""
        try:
            reply = await route.handler(http)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the adapter turns every error into a reply
            reply = route.on_error(error)
            if route.streams:
                reply.headers.append((b"connection", b"close"))
        plane = self._plane()
        if plane is not None and plane.draining:
            reply.headers.append((b"connection", b"close"))
        return reply

    def _logged(self, http: HttpRequest, reply: Reply, began_s: float) -> None:
        if self._access_log is not None:
            self._access_log.add(http, reply, time.monotonic() - began_s)

    def _wrong_method(self, method: str, path: str) -> Reply | None:
        """What is said of one of our paths that takes other methods; None for BentoML's."""
        if method == "OPTIONS":
            return None  # a browser's question, which BentoML answers
        found = {
            other: route
            for other in _METHODS
            if (route := self._routes.get((other, path)) or self._find(other, path)) is not None
        }
        if not found:
            return None
        on_error = next(iter(found.values())).on_error
        return on_error(MethodNotAllowed(method, path, tuple(found)))

    def _no_path(self, method: str, path: str) -> Reply | None:
        """What is said of a path under ``/v1/`` or ``/v2/`` that is nobody's; None for others."""
        if method == "OPTIONS" or self._oip is None or not path.startswith(("/v1/", "/v2/")):
            return None  # nothing of BentoML's is under these
        there = {known for _, known in self._routes if known.startswith(path[:4])}
        there = {known for known in there if _MODEL.match(known) is None} | set(_NAMED[path[:4]])
        error = UnknownPath(path, tuple(sorted(there)))
        return errors.openai(error) if path.startswith("/v1/") else errors.open_inference(error)

    def _find(self, method: str, path: str) -> Route | None:
        """Paths with a name in them; the common ones are remembered."""
        oip, native = self._oip, self._native
        if oip is None or native is None:
            return None
        if method == "GET" and path.startswith(_DECISION):
            name = path.removeprefix(_DECISION)
            return Route(partial(native.decision, name=name), errors.native)
        if method == "GET" and path.startswith(_LISTED):
            handler = partial(OpenAIProtocol(oip.plane).model, name=path.removeprefix(_LISTED))
            return Route(handler, errors.openai)
        if path.startswith(_PIPELINE):
            name = path.removeprefix(_PIPELINE)
            if name in oip.plane.catalog.pipelines:  # known by another method
                return None
            return Route(partial(native.no_pipeline, name=name), errors.native)
        if method == "POST" and (asked := _REPOSITORY.match(path)):
            api = (
                VersionsProtocol if asked["verb"] in VersionsProtocol.VERBS else RepositoryProtocol
            )
            handler = getattr(api(oip.plane), asked["verb"])
            handler = partial(handler, name=asked["name"])
            return Route(handler, errors.open_inference, operator=True)
        match = _MODEL.match(path)
        if match is None:
            bulk = self._bulk()
            return None if bulk is None else bulk_routes.find(bulk, method, path)
        name, verb, version = match["name"], match["verb"], match["version"]
        triton = TritonProtocol(oip.plane)
        handler = {
            ("GET", None): oip.metadata,
            ("GET", "ready"): oip.model_ready,
            ("GET", "config"): triton.config,
            ("GET", "stats"): triton.stats,
            ("POST", "infer"): oip.infer,
        }.get((method, verb))
        if handler is None:
            return None
        plane = self._plane()
        if version is not None and plane is not None:
            # Without versions there is the first; of another name nobody is known.
            only = name not in plane.catalog.versioned
            name = name if only and version == ONLY else model_name(name, version)
        short = self._short_class(name) if verb == "infer" else None
        on_error = errors.open_inference
        route = Route(partial(handler, name=name), on_error, watch=verb == "infer", short=short)
        # Only what exists is remembered: there is no end of other names.
        if plane is not None and plane.catalog.named(name):
            self._routes[method, path] = route
        return route

    def _short_class(self, name: str) -> str | None:
        """The default class of requests to a tabular route or model: these are short."""
        plane = self._plane()
        entry = plane and plane.catalog.named(name)
        if plane is None or entry is None or entry.task is not Task.TABULAR:
            return None
        return options.default_class(plane.catalog, name, entry.task)

    def _open(self) -> None:
        plane = self._plane()
        if plane is None:
            return
        if self._open not in plane.adopted:
            plane.adopted.append(self._open)
        openai, oip, native = (
            OpenAIProtocol(plane),
            OpenInferenceProtocol(plane),
            NativeProtocol(plane),
        )
        self._oip, self._native = oip, native
        self._limit_bytes = plane.catalog.gateway.max_body
        if self._door is None:
            refused = partial(plane.metrics.turned_away, Overloaded.code)
            self._door = Admission(*admission_terms(plane.catalog), plane.clock, refused)
            self._lane = FastPath(self._door, self._short, self._answer_short, self._limit)
        else:  # connections that are open know this door: it goes by the new catalog
            self._door.retune(*admission_terms(plane.catalog))
        self._routes = {
            ("POST", "/v1/chat/completions"): Route(openai.chat, errors.openai, watch=True),
            ("POST", "/v1/embeddings"): Route(openai.embeddings, errors.openai, watch=True),
            ("GET", "/v1/models"): Route(openai.models, errors.openai),
            ("POST", "/v2/repository/index"): Route(
                RepositoryProtocol(plane).index, errors.open_inference
            ),
            ("POST", "/v1/catalog/reload"): Route(
                RepositoryProtocol(plane).reload, errors.native, operator=True
            ),
            ("GET", "/v2"): Route(oip.server, errors.open_inference),
            ("GET", "/v2/models/stats"): Route(TritonProtocol(plane).stats, errors.open_inference),
            ("GET", "/v2/health/live"): Route(oip.live, errors.open_inference),
            ("GET", "/v2/health/ready"): Route(oip.ready, errors.open_inference),
            ("GET", "/readyz"): Route(oip.ready, errors.native),
            ("GET", "/livez"): Route(oip.live, errors.native),
            ("POST", "/v1/route"): Route(native.route, errors.native),
            ("POST", "/v1/feedback"): Route(native.feedback, errors.native),
            ("GET", "/v1/router"): Route(native.routers, errors.native),
            ("POST", "/v1/router/reload"): Route(native.reload, errors.native, operator=True),
            ("GET", "/metrics"): Route(self._metrics, errors.native),
            ("GET", "/"): Route(self._front_page, errors.native),
        }
        if plane.catalog.pipelines:
            # Imported here: a catalog without pipelines does not pay for them at start.
            from services.protocols.pipelines import PipelineProtocol

            self._routes |= PipelineProtocol(plane).routes()
        if (bulk := self._bulk()) is not None:
            self._routes |= bulk_routes.routes(bulk)

    async def _metrics(self, http: HttpRequest) -> Reply:
        """``GET /metrics``: ours and BentoML's, with the gauges of this moment."""
        del http
        from services.metrics.exposition import exposition

        plane = self._plane()
        if plane is not None:
            plane.measure()
            if plane.peers is not None:
                await plane.peers.ask("measure")
        content_type, body = exposition()
        return Reply(200, [(b"content-type", content_type.encode())], body)

    async def _front_page(self, http: HttpRequest) -> Reply:
        """``GET /``: what is served here, for a person."""
        del http
        from services.server.index_page import front_page

        plane = self._plane()
        html = b"" if plane is None else front_page(plane)
        return Reply(200, [(b"content-type", b"text/html; charset=utf-8"), *_NOTHING_FOREIGN], html)


def _class_of(headers: Headers) -> str | None:
    for name, value in headers:
        if name == b"x-latency-class":
            return value.decode("latin-1")
    return None
