"""Canaries, promotions and rollbacks by request: an operator's, like loading and unloading."""

from __future__ import annotations

from typing import Any, ClassVar

from services.dataplane.data_plane import DataPlane
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from services.rollouts.aliases import Step, promoting, rolling_back, trying
from turnout.errors import InvalidRequest

_BY = "by an operator"


class VersionsProtocol:
    """Adapter over one plane."""

    VERBS: ClassVar = frozenset({"canary", "promote", "rollback"})

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def canary(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/canary``: ``{"version", "share"}``.

        The version is loaded first; one that cannot be is not put on trial.
        """
        body = _body(http, {"version", "share"})
        version, share = _version(body), body.get("share")
        if version is None:
            raise InvalidRequest("version is missing; name the one to try", param="version")
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float)):
            raise InvalidRequest(f"share must be a number, got {share!r}", param="share")
        step = trying(version, None if share is None else float(share), _BY)
        return await self._move(name, step)

    async def promote(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/promote``: ``{"version"}``, by default the canary."""
        version = _version(_body(http, {"version"}))
        return await self._move(name, promoting(version, _BY))

    async def rollback(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/rollback``: the canary, else the last promotion.

        ``{"production": true}`` undoes the promotion although a canary was taken back since.
        """
        production = _body(http, {"production"}).get("production", False)
        if not isinstance(production, bool):
            raise InvalidRequest(
                f"production must be true or false, got {production!r}", param="production"
            )
        return await self._move(name, rolling_back(_BY, production=production))

    async def _move(self, name: str, step: Step) -> Reply:
        """Take a step, once the version that comes in is loaded or reached."""
        fleet = self._plane.fleet
        return json_reply(await self._plane.rollouts.change(name, step, fleet.make_ready))


def _body(http: HttpRequest, keys: set[str]) -> dict[str, Any]:
    body = json_object(http) if http.body else {}
    unknown = [str(key) for key in body if key not in keys]
    if unknown:
        there = ", ".join(sorted(keys)) or "none"
        raise InvalidRequest(f"unknown key {unknown[0]}; there are {there}", param=unknown[0])
    return body


def _version(body: dict[str, Any]) -> str | None:
    version = body.get("version")
    if isinstance(version, int) and not isinstance(version, bool):
        return str(version)
    if version is not None and not isinstance(version, str):
        raise InvalidRequest(f"version must be text, got {version!r}", param="version")
    return version
