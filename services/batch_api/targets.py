"""What a batch may call, bound to the plane: the same adapters, models and queues as HTTP.

The one thing that differs is the latency class: the catalog's ``bulk`` (or else its least urgent),
unless the row's body names one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from services.batch_api.jsonl import Answered
from services.dataplane.data_plane import DataPlane
from services.protocols import errors
from services.protocols.open_inference import OpenInferenceProtocol
from services.protocols.openai import OpenAIProtocol
from turnout.catalog import Catalog
from turnout.errors import InvalidRequest, PayloadTooLarge, UnknownModel
from turnout.types import Task

_INFER = re.compile(r"^/v2/models/(?P<name>[^/]+)/infer$")
_CHAT, _EMBED = "/v1/chat/completions", "/v1/embeddings"
_PORTION_ROWS = {Task.CHAT: 8, Task.IMAGE: 32, Task.EMBED: 64}
_FEWEST, _MOST = 8, 256
_CLASS = "bulk"


class Endpoints(Protocol):
    """What the worker needs to know of the endpoints that rows are sent to."""

    def check(self, url: str) -> None:
        """Whether a batch may name this endpoint.

        Raises:
            InvalidRequest: it may not; says which it may.
        """
        ...

    def portion_rows(self, url: str) -> int:
        """Rows that one worker takes at a time."""
        ...

    def most_rows(self, url: str) -> int:
        """Rows that may run at once at most."""
        ...

    async def run(self, url: str, body: dict[str, Any], size_bytes: int) -> Answered:
        """Run one row.

        Args:
            url: the endpoint.
            body: the row's request.
            size_bytes: of its line; its body is measured only where the line exceeds ``max_body``.

        Raises:
            TurnoutError: it failed; see ``refusal`` for its answer.
        """
        ...

    def refusal(self, url: str, error: Exception) -> Answered:
        """The answer to a row that failed for good."""
        ...


class PlaneEndpoints:
    """``Endpoints`` over one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._openai = OpenAIProtocol(plane)
        self._oip = OpenInferenceProtocol(plane)
        self._headers = {b"x-latency-class": _least_urgent(plane.catalog).encode()}

    @property
    def _catalog(self) -> Catalog:
        return self._plane.catalog

    def check(self, url: str) -> None:
        """See ``Endpoints.check``."""
        self._task(url)

    def portion_rows(self, url: str) -> int:
        """See ``Endpoints.portion_rows``: a portion is a few seconds of work at most."""
        return portion_rows(self._catalog, url)

    def most_rows(self, url: str) -> int:
        """See ``Endpoints.most_rows``: one batch in the engine, and the next one waiting."""
        task = self._task(url)
        name = model_named(url)
        names = self._catalog.models_of(name or self._catalog.route_for(task) or "")
        largest = max((_batch_rows(self._catalog, each) for each in names), default=_FEWEST)
        return min(max(2 * largest, _FEWEST), _MOST)

    async def run(self, url: str, body: dict[str, Any], size_bytes: int) -> Answered:
        """See ``Endpoints.run``."""
        if body.get("stream"):
            raise InvalidRequest("a row of a batch cannot stream", param="stream")
        max_body = self._catalog.gateway.max_body
        if size_bytes > max_body and len(orjson.dumps(body)) > max_body:
            raise PayloadTooLarge(max_body, "the row's body")
        headers = {} if _names_class(body) else self._headers
        if url == _CHAT:
            answer, document = await self._openai.chat_document(body, headers)
        elif url == _EMBED:
            answer, document = await self._openai.embeddings_document(body, headers)
        elif name := model_named(url):
            answer, document = await self._oip.infer_document(body, name, headers)
        else:
            raise InvalidRequest(f"no batch may call {url!r}", param="url")
        return Answered(200, answer.decision.id, document)

    def refusal(self, url: str, error: Exception) -> Answered:
        """See ``Endpoints.refusal``: the error in the shape of the row's own protocol."""
        shape = errors.open_inference_document if model_named(url) else errors.openai_document
        status, _, document = shape(error)
        return Answered(status, "", document)

    def _task(self, url: str) -> Task:
        return task_called(self._catalog, url)


def model_named(url: str) -> str | None:
    """The model or route in an endpoint's path; None for those that have it in the body."""
    match = _INFER.match(url)
    return match["name"] if match else None


def portion_rows(catalog: Catalog, url: str) -> int:
    """Rows that one worker takes at a time."""
    return _PORTION_ROWS.get(task_called(catalog, url), _MOST)


def task_called(catalog: Catalog, url: str) -> Task:
    """The task of an endpoint that a batch may call.

    Raises:
        InvalidRequest: it may not call this one; says which it may.
    """
    if url == _CHAT:
        return Task.CHAT
    if url == _EMBED:
        return Task.EMBED
    name = model_named(url)
    if name is None:
        known = f"{_CHAT}, {_EMBED} and /v2/models/NAME/infer"
        raise InvalidRequest(f"a batch cannot call {url!r}; it can call {known}", param="endpoint")
    entry = catalog.named(name)
    if entry is None:
        error = UnknownModel(name, catalog.names)
        raise InvalidRequest(str(error), param="endpoint") from error
    return entry.task


def _least_urgent(catalog: Catalog) -> str:
    if _CLASS in catalog.classes:
        return _CLASS
    return max(catalog.classes, key=lambda name: catalog.classes[name].priority)


def _batch_rows(catalog: Catalog, name: str) -> int:
    model = catalog.models.get(name)
    if model is None:
        return _FEWEST
    if model.task is Task.CHAT:
        return getattr(model.runner, "max_sequences", _FEWEST)
    return model.batching.max_rows


def _names_class(body: Mapping[str, Any]) -> bool:
    """Whether a body names its latency class (Open Inference also has it in ``parameters``)."""
    said = body["routing"] if "routing" in body else body.get("parameters")
    return isinstance(said, Mapping) and "latency_class" in said
