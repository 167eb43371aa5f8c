"""Loading, unloading and pinning of models: the Open Inference Protocol's repository extension.

Source: the model repository extension, as Triton documents it. Loading and unloading affect
all callers, so only an operator may do it: see ``services.server.auth``.
"""

from __future__ import annotations

from typing import Any

from services.dataplane.admin import AdminOperations
from services.dataplane.data_plane import DataPlane
from services.fleet.status import status
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from turnout.catalog import split
from turnout.errors import InvalidRequest


class RepositoryProtocol:
    """The repository adapter over one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._operations = AdminOperations(plane)

    async def index(self, http: HttpRequest) -> Reply:
        """``POST /v2/repository/index``: every model with its state; ``ready: true`` filters."""
        only_ready = bool(http.body) and json_object(http).get("ready") is True
        rows = [self._row(name) for name in self._plane.catalog.models]
        return json_reply([row for row in rows if not only_ready or row["state"] == "READY"])

    async def load(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/load``: return once it is loaded."""
        return json_reply(await self._operations.do("load", name))

    async def unload(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/unload``: finish accepted requests first."""
        return json_reply(await self._operations.do("unload", name))

    async def pin(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/pin``: ``{"pinned": false}`` unpins it."""
        pinned = json_object(http).get("pinned", True) if http.body else True
        if not isinstance(pinned, bool):
            raise InvalidRequest("pinned must be true or false", param="pinned")
        return json_reply(await self._operations.do("pin", [name, pinned]))

    async def reload(self, http: HttpRequest) -> Reply:
        """``POST /v1/catalog/reload``: serve the present content of the catalog's file."""
        return json_reply(await self._operations.do("reload", None))

    def _row(self, name: str) -> dict[str, Any]:
        model = status(self._plane.fleet, name)
        state = {"ready": "READY", "loading": "LOADING"}.get(model.state, "UNAVAILABLE")
        reason = {"ready": "", "cold": "not loaded; loads on demand"}.get(model.state, model.shown)
        own, version = split(name)
        return {"name": own, "version": version or "1", "state": state, "reason": reason}
