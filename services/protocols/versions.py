"""Canaries, promotions and rollbacks by request, for operators."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator

from services.dataplane.data_plane import DataPlane
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from services.protocols.json_body import JsonBody
from services.rollouts.steps import Step, promote, roll_back, try_version

_BY = "by an operator"
B = TypeVar("B", bound=JsonBody)


def _as_text(version: object) -> object:
    """Return a version number as text."""
    is_number = isinstance(version, int) and not isinstance(version, bool)
    return str(version) if is_number else version


Version = Annotated[str, BeforeValidator(_as_text)]


class CanaryBody(JsonBody):
    """The version to put on trial, and its share of the requests."""

    version: Version
    share: float | None = None


class PromoteBody(JsonBody):
    """The version to promote; None means the canary."""

    version: Version | None = None


class RollbackBody(JsonBody):
    """Whether to undo the last promotion even if a canary was rolled back since."""

    production: bool = False


class VersionsProtocol:
    """The versions adapter over one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def canary(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/canary``: ``{"version", "share"}``.

        The version is loaded first; a version that cannot be loaded is not put on trial.
        """
        body = _read(CanaryBody, http)
        return await self._move(name, try_version(body.version, body.share, _BY))

    async def promote(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/promote``: ``{"version"}``, by default the canary."""
        return await self._move(name, promote(_read(PromoteBody, http).version, _BY))

    async def rollback(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/repository/models/{name}/rollback``: the canary, else the last promotion.

        ``{"production": true}`` undoes the promotion even if a canary was rolled back since.
        """
        body = _read(RollbackBody, http)
        return await self._move(name, roll_back(_BY, production=body.production))

    async def _move(self, name: str, step: Step) -> Reply:
        """Apply a rollout step, once its new version is loaded or reached."""
        fleet = self._plane.fleet
        return json_reply(await self._plane.rollouts.change(name, step, fleet.make_ready))


def _read(kind: type[B], http: HttpRequest) -> B:
    return kind.read(json_object(http) if http.body else {})
