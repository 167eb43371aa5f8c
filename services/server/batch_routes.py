"""Which path of the bulk path is answered by what, for the front door.

The handlers need SQLAlchemy; they are imported with the first request, in a thread, so that a
gateway that serves no batch does not wait for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import TYPE_CHECKING, Any

from services.http.messages import HttpRequest, Reply, Route
from services.protocols import errors

if TYPE_CHECKING:
    from services.batch_api.service import BatchService

_FILES, _BATCHES = "file_handlers:FileRoutes", "batch_handlers:BatchRoutes"
_NAMED = re.compile(r"^/v1/(?P<kind>files|batches)/(?P<name>[\w-]+)(?:/(?P<verb>content|cancel))?$")
_WITH_NAME: dict[tuple[str, str, str | None], tuple[str, str]] = {
    ("GET", "files", None): (_FILES, "get"),
    ("DELETE", "files", None): (_FILES, "delete"),
    ("GET", "files", "content"): (_FILES, "content"),
    ("GET", "batches", None): (_BATCHES, "get"),
    ("POST", "batches", "cancel"): (_BATCHES, "cancel"),
}

_Handler = Callable[..., Coroutine[Any, Any, Reply]]


def routes(bulk: BatchService) -> dict[tuple[str, str], Route]:
    """The routes of fixed paths."""
    return {
        ("POST", "/v1/files"): Route(_lazy(bulk, _FILES, "upload"), errors.openai, streams=True),
        ("GET", "/v1/files"): Route(_lazy(bulk, _FILES, "page"), errors.openai),
        ("POST", "/v1/batches"): Route(_lazy(bulk, _BATCHES, "create"), errors.openai),
        ("GET", "/v1/batches"): Route(_lazy(bulk, _BATCHES, "page"), errors.openai),
    }


def find(bulk: BatchService, method: str, path: str) -> Route | None:
    """The route of a path with an id in it; None when it is none of the bulk path's."""
    match = _NAMED.match(path)
    found = match and _WITH_NAME.get((method, match["kind"], match["verb"]))
    if match is None or found is None:
        return None
    return Route(_lazy(bulk, *found, name=match["name"]), errors.openai)


def _lazy(bulk: BatchService, where: str, handler: str, **arguments: str) -> _Handler:
    """A handler that is imported when it is first called."""
    module, kind = where.split(":")

    async def call(http: HttpRequest) -> Reply:
        await bulk.database()
        found = await asyncio.to_thread(import_module, f"services.batch_api.{module}")
        return await getattr(getattr(found, kind)(bulk), handler)(http, **arguments)

    return call
