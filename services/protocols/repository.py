"""Models that come and go by request: the Open Inference Protocol's repository extension, and pins.

Source: the model repository extension, as Triton documents it. Loading and unloading change what a
server does for everybody, so they are an operator's: see ``services.operator``.
"""

from __future__ import annotations

from typing import Any

from services.http import Http, Reply, json_object, json_reply
from services.plane import Plane
from services.reload import reload_catalog
from services.status import status
from turnout.catalog import split
from turnout.errors import InvalidRequest, UnknownModel
from turnout.settings import from_environment


class Repository:
    """Adapter over one plane."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def index(self, http: Http) -> Reply:
        """``POST /v2/repository/index``: every model with its state; ``ready: true`` filters."""
        only_ready = bool(http.body) and json_object(http).get("ready") is True
        rows = [self._row(name) for name in self._plane.catalog.models]
        return json_reply([row for row in rows if not only_ready or row["state"] == "READY"])

    async def load(self, http: Http, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/load``: waits until it is loaded."""
        del http
        await self._plane.fleet.pool.load(self._known(name), priority=0)
        return json_reply({})

    async def unload(self, http: Http, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/unload``: what is accepted is finished first."""
        del http
        await self._plane.fleet.pool.unload(self._known(name))
        return json_reply({})

    async def pin(self, http: Http, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/pin``: ``{"pinned": false}`` unpins it."""
        pinned = json_object(http).get("pinned", True) if http.body else True
        if not isinstance(pinned, bool):
            raise InvalidRequest("pinned must be true or false", param="pinned")
        await self._plane.fleet.pool.pin(self._known(name), pinned)
        return json_reply({"pinned": pinned})

    async def reload(self, http: Http) -> Reply:
        """``POST /v1/catalog/reload``: serve what the catalog's file says now."""
        del http
        changes = reload_catalog(self._plane, from_environment().catalog)
        return json_reply(changes.as_json())

    def _known(self, name: str) -> str:
        """The plain model of this process that a name means.

        Raises:
            UnknownModel: there is none of this name.
            InvalidRequest: it runs elsewhere.
        """
        model = self._plane.catalog.model_called(name)
        if model is None:
            raise UnknownModel(name, tuple(self._plane.catalog.models))
        if model not in self._plane.fleet.pool.slots:
            raise InvalidRequest(
                f"model {name!r} runs in a process of its own or elsewhere; only inline models "
                "are loaded and unloaded here",
                param="model",
            )
        return model

    def _row(self, name: str) -> dict[str, Any]:
        state = status(self._plane.fleet, name)["state"]
        known = {"ready": "READY", "loading": "LOADING", "cold": "UNAVAILABLE"}
        reason = {"ready": "", "cold": "not loaded; loads on demand"}.get(state, state)
        shown = known.get(state, "UNAVAILABLE")
        own, version = split(name)
        return {"name": own, "version": version or "1", "state": shown, "reason": reason}
