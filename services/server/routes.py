"""The route table of the gateway: method, path, handler, shape of errors, authorisation.

A path is looked up by equality first; paths with a name in them are matched with Starlette's path
templates. The inference paths of every model and route stand in the table by their full path, so
that the hot path is one dictionary look-up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from starlette.routing import compile_path

from services.http.messages import Handler, HttpRequest, Reply
from services.protocols import errors
from services.protocols.native import NativeProtocol
from services.protocols.open_inference import ONLY, OpenInferenceProtocol
from services.protocols.openai import OpenAIProtocol
from services.protocols.repository import RepositoryProtocol
from services.protocols.routing_options import default_class
from services.protocols.triton import TritonProtocol
from services.protocols.versions import VersionsProtocol
from services.server.pages import Pages
from turnout.catalog import Catalog, model_name
from turnout.errors import MethodNotAllowed, UnknownPath
from turnout.types import Task

if TYPE_CHECKING:
    from services.batch_api.service import BatchService
    from services.dataplane.data_plane import DataPlane

ErrorShape = Callable[[Exception], Reply]

_OWN_PREFIXES = ("/v1/", "/v2/")
_ALIASES = ("production", "canary")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ID = re.compile(r"[\w-]+", re.ASCII)
_VARIABLE = re.compile(r"\{(\w+)(?::path)?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """The handling of one method of one path.

    Attributes:
        handler: answers it; takes the names in the path as keywords.
        on_error: the protocol's shape of an error.
        cancel_on_disconnect: stop the work when the client leaves.
        streams: the handler reads the body itself, from ``HttpRequest.pieces``, and sets its limit.
        short: class of a request that names none, where an answer takes well under a millisecond:
            admission counts these requests. None for others.
        operator: only an operator may call it.
    """

    handler: Handler
    on_error: ErrorShape
    cancel_on_disconnect: bool = False
    streams: bool = False
    short: str | None = None
    operator: bool = False

    def bind(self, **names: str) -> Route:
        """Return the same route with the names in its path bound to the handler."""
        return replace(self, handler=partial(self.handler, **names)) if names else self


class RouteTable:
    """The routes of one catalog.

    Args:
        routes: route by method and path; ``{name}`` in a path is one segment of it,
            ``{name:path}`` the rest.
    """

    def __init__(self, routes: dict[tuple[str, str], Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._templates: dict[str, dict[str, Route]] = {}
        for (method, path), route in routes.items():
            group = self._templates if "{" in path else self._exact
            group.setdefault(path, {})[method] = route
        self._patterns = {path: compile_path(path)[0] for path in self._templates}
        self.short = {path: route for (_, path), route in routes.items() if route.short}

    @property
    def paths(self) -> frozenset[str]:
        """Every path and template of the table."""
        return frozenset((*self._exact, *self._templates))

    def find(self, method: str, path: str) -> Route | None:
        """Return the route of a method and path; None where there is none."""
        return self._methods(path).get(method)

    def refusal(self, method: str, path: str) -> Reply | None:
        """Return the answer to a request without a route; None where the path may be BentoML's.

        405 where the path takes other methods, 404 under Turnout's own prefixes.
        """
        if method == "OPTIONS":
            return None  # a browser's preflight, which BentoML answers
        methods = self._methods(path)
        if methods:
            shape = next(iter(methods.values())).on_error
            return shape(MethodNotAllowed(method, path, tuple(methods)))
        prefix = path[:4]
        if prefix not in _OWN_PREFIXES:
            return None
        listed = {_shown(each) for each in self._listed() if each.startswith(prefix)}
        shape = errors.openai if prefix == "/v1/" else errors.open_inference
        return shape(UnknownPath(path, tuple(sorted(listed))))

    def _listed(self) -> Iterator[str]:
        """Yield every path, those of one model as their template."""
        yield from self._templates
        for path in self._exact:
            if not any(pattern.match(path) for pattern in self._patterns.values()):
                yield path

    def _methods(self, path: str) -> dict[str, Route]:
        """Return the route of every method that a path takes."""
        if (exact := self._exact.get(path)) is not None:
            return exact
        for template, pattern in self._patterns.items():
            if match := pattern.match(path):
                routes = self._templates[template]
                return {method: route.bind(**match.groupdict()) for method, route in routes.items()}
        return {}


def route_table(plane: DataPlane, batches: BatchService | None, started_at: int) -> RouteTable:
    """Build the table of a plane's present catalog.

    Args:
        plane: the data plane.
        batches: the batch API, where it is served.
        started_at: Unix time of the gateway's start.
    """
    oip, openai = OpenInferenceProtocol(plane), OpenAIProtocol(plane, started_at)
    native, triton, pages = NativeProtocol(plane), TritonProtocol(plane), Pages(plane)
    repository, versions = RepositoryProtocol(plane), VersionsProtocol(plane)

    def v1(handler: Handler, **options: Any) -> Route:
        return Route(handler, errors.openai, **options)

    def v2(handler: Handler, **options: Any) -> Route:
        return Route(handler, errors.open_inference, **options)

    def own(handler: Handler, **options: Any) -> Route:
        return Route(handler, errors.native, **options)

    def operator(handler: Handler) -> Route:
        return Route(handler, errors.open_inference, operator=True)

    resolved = partial(_resolved, plane)
    model, repository_model = "/v2/models/{name}", "/v2/repository/models/{name}"
    infer = v2(resolved(oip.infer), cancel_on_disconnect=True)
    routes = {
        ("POST", "/v1/chat/completions"): v1(openai.chat, cancel_on_disconnect=True),
        ("POST", "/v1/embeddings"): v1(openai.embeddings, cancel_on_disconnect=True),
        ("GET", "/v1/models"): v1(openai.models),
        ("GET", "/v1/models/{name:path}"): v1(openai.model),
        ("GET", "/v2"): v2(oip.server),
        ("GET", "/v2/health/live"): v2(oip.live),
        ("GET", "/v2/health/ready"): v2(oip.ready),
        ("GET", "/v2/models/stats"): v2(triton.stats),
        ("POST", "/v2/repository/index"): v2(repository.index),
        ("POST", f"{repository_model}/load"): operator(repository.load),
        ("POST", f"{repository_model}/unload"): operator(repository.unload),
        ("POST", f"{repository_model}/pin"): operator(repository.pin),
        ("POST", f"{repository_model}/canary"): operator(versions.canary),
        ("POST", f"{repository_model}/promote"): operator(versions.promote),
        ("POST", f"{repository_model}/rollback"): operator(versions.rollback),
        ("GET", "/readyz"): own(oip.ready),
        ("GET", "/livez"): own(oip.live),
        ("POST", "/v1/route"): own(native.route),
        ("POST", "/v1/feedback"): own(native.feedback),
        ("GET", "/v1/decisions/{decision_id:path}"): own(native.decision),
        ("GET", "/v1/router"): own(native.routers),
        ("POST", "/v1/router/reload"): own(native.reload, operator=True),
        ("POST", "/v1/catalog/reload"): own(repository.reload, operator=True),
        ("GET", "/metrics"): own(pages.metrics),
        ("GET", "/"): own(pages.index),
    }
    for path in (model, f"{model}/versions/{{version}}"):
        routes |= {
            ("GET", path): v2(resolved(oip.metadata)),
            ("GET", f"{path}/ready"): v2(resolved(oip.model_ready)),
            ("GET", f"{path}/config"): v2(resolved(triton.config)),
            ("GET", f"{path}/stats"): v2(resolved(triton.stats)),
            ("POST", f"{path}/infer"): infer,
        }
    for path, name in _inference_paths(plane.catalog):
        handler = partial(oip.infer, name=name)
        routes["POST", path] = replace(infer, handler=handler, short=_short(plane.catalog, name))
    if plane.catalog.pipelines:
        routes |= _pipeline_routes(plane)
    missing = own(native.no_pipeline)
    routes |= {(method, "/v1/pipelines/{name:path}"): missing for method in _METHODS}
    if batches is not None:
        routes |= _batch_routes(batches)
    return RouteTable(routes)


def _resolved(plane: DataPlane, handler: Handler) -> Handler:
    """Wrap a handler of a model's path, whose name and version become one plain name."""

    async def call(http: HttpRequest, name: str, version: str | None = None) -> Reply:
        return await handler(http, name=_named(plane.catalog, name, version))

    return call


def _named(catalog: Catalog, name: str, version: str | None) -> str:
    """Return the name of a model's version; a model without versions has version 1 only."""
    if version is None or (version == ONLY and name not in catalog.versioned):
        return name
    return model_name(name, version)


def _inference_paths(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Yield every inference path, with the name it means."""
    by_alias = [f"{name}@{alias}" for name in catalog.versioned for alias in _ALIASES]
    for name in (*catalog.names, *by_alias):
        yield f"/v2/models/{name}/infer", name
        versioned = catalog.versioned.get(name)
        for version in (ONLY,) if versioned is None else (*versioned.versions, *_ALIASES):
            path = f"/v2/models/{name}/versions/{version}/infer"
            yield path, _named(catalog, name, version)


def _short(catalog: Catalog, name: str) -> str | None:
    """Return the default class of a tabular route or model: its requests are short."""
    entry = catalog.named(name)
    if entry is None or entry.task is not Task.TABULAR:
        return None
    return default_class(catalog, name, entry.task)


def _pipeline_routes(plane: DataPlane) -> dict[tuple[str, str], Route]:
    # Imported here: a catalog without pipelines does not pay for them at start.
    from services.protocols.pipelines import PipelineProtocol

    protocol = PipelineProtocol(plane)
    routes: dict[tuple[str, str], Route] = {}
    for name in plane.catalog.pipelines:
        native = Route(protocol.native, errors.native, cancel_on_disconnect=True)
        routes["POST", f"/v1/pipelines/{name}"] = native.bind(name=name)
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{ONLY}"):
            shape = errors.open_inference
            infer = Route(protocol.infer, shape, cancel_on_disconnect=True)
            routes["GET", path] = Route(protocol.metadata, shape).bind(name=name)
            routes["GET", f"{path}/ready"] = Route(protocol.ready, shape).bind(name=name)
            routes["POST", f"{path}/infer"] = infer.bind(name=name)
    return routes


def _batch_routes(batches: BatchService) -> dict[tuple[str, str], Route]:
    def files(method: str, **options: Any) -> Route:
        handler = _lazy(batches, "file_handlers", "FileRoutes", method)
        return Route(handler, errors.openai, **options)

    def jobs(method: str) -> Route:
        return Route(_lazy(batches, "batch_handlers", "BatchRoutes", method), errors.openai)

    return {
        ("POST", "/v1/files"): files("upload", streams=True),
        ("GET", "/v1/files"): files("page"),
        ("GET", "/v1/files/{name}"): files("get"),
        ("DELETE", "/v1/files/{name}"): files("delete"),
        ("GET", "/v1/files/{name}/content"): files("content"),
        ("POST", "/v1/batches"): jobs("create"),
        ("GET", "/v1/batches"): jobs("page"),
        ("GET", "/v1/batches/{name}"): jobs("get"),
        ("POST", "/v1/batches/{name}/cancel"): jobs("cancel"),
    }


def _lazy(batches: BatchService, module: str, kind: str, method: str) -> Handler:
    """Return a handler imported at its first call: SQLAlchemy takes 0.3 s to import."""

    async def call(http: HttpRequest, **names: str) -> Reply:
        if not all(map(_ID.fullmatch, names.values())):
            raise UnknownPath(http.path, ("/v1/files/NAME", "/v1/batches/NAME"))
        await batches.database()
        handlers = await asyncio.to_thread(import_module, f"services.batch_api.{module}")
        handler: Callable[..., Coroutine[Any, Any, Reply]]
        handler = getattr(getattr(handlers, kind)(batches), method)
        return await handler(http, **names)

    return call


def _shown(path: str) -> str:
    """Return a path of the table for a person: ``/v2/models/NAME/infer``."""
    return _VARIABLE.sub(lambda variable: variable[1].upper(), path)
