"""What an operator may do to what is served: done in this worker, then in the gateway's others."""

from __future__ import annotations

import logging
from typing import Any

from services.dataplane.catalog_reload import reload_catalog
from services.dataplane.data_plane import DataPlane
from services.process.peers import Answers
from turnout.errors import CapacityError, InvalidRequest, TurnoutError
from turnout.settings import from_environment

logger = logging.getLogger("turnout.operations")

_QUESTION = "operate"
_PATIENCE_S = 300.0
_AGAIN_S = 5.0


class AdminOperations:
    """An operator's hand on one plane.

    Args:
        plane: this worker's.
        patience_s: how long another worker may take to do what it is told.
    """

    def __init__(self, plane: DataPlane, patience_s: float = _PATIENCE_S) -> None:
        self._plane = plane
        self._patience_s = patience_s

    async def do(self, what: str, value: Any) -> dict[str, Any]:
        """Do it here, then in every other worker.

        Args:
            what: ``load``, ``unload``, ``pin`` or ``reload``.
            value: what it takes.

        Raises:
            TurnoutError: it cannot be done here, and then it is done nowhere; or another worker
                could not, with its words.
        """
        value = self._meant(what, value)
        said = await self._here(what, value)
        if self._plane.peers is None:
            return said
        asked = [what, value]
        others, silent = await self._plane.peers.ask_all(_QUESTION, asked, self._patience_s)
        problems = [one["problem"] for one in others if one["problem"]]
        problems += [f"worker {name} did not answer" for name in silent]
        if problems:
            raise CapacityError(
                f"done, but not in every worker: {problems[0]}", retry_after_s=_AGAIN_S
            )
        return said

    def answers(self) -> Answers:
        """What this worker does when another was told to."""

        async def operate(asked: Any) -> dict[str, Any]:
            what, value = asked
            try:
                await self._here(what, value)
            except TurnoutError as error:
                return {"problem": str(error)}
            except Exception as error:
                logger.exception("what another worker was told, %s, failed here", what)
                return {"problem": f"{type(error).__name__}: {error}"}
            return {"problem": None}

        return {_QUESTION: operate}

    async def _here(self, what: str, value: Any) -> dict[str, Any]:
        pool = self._plane.fleet.pool
        if what == "reload":
            return reload_catalog(self._plane, from_environment().catalog).as_json()
        if what == "load":
            await pool.load(self._known(value), priority=0)
        elif what == "unload":
            await pool.unload(self._known(value))
        elif what == "pin":
            name, pinned = value
            await pool.pin(self._known(name), pinned)
            return {"pinned": pinned}
        return {}

    def _meant(self, what: str, value: Any) -> Any:
        """The same of a plain model: an alias may mean another one in another worker just now."""
        if what == "reload":
            return value
        if what == "pin":
            name, pinned = value
            return [self._known(name), pinned]
        return self._known(value)

    def _known(self, name: str) -> str:
        """The plain model of this process that a name means.

        Raises:
            UnknownModel: there is none of this name.
            InvalidRequest: it runs elsewhere.
        """
        model = self._plane.catalog.model_called(name)
        if model is None:
            raise self._plane.catalog.no_model(name, self._plane.catalog.models)
        if model not in self._plane.fleet.pool.slots:
            raise InvalidRequest(
                f"model {name!r} runs in a process of its own or elsewhere; only inline models "
                "are loaded and unloaded here",
                param="model",
            )
        return model
