"""Operations of an operator on served models: run in this worker, then in the others."""

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
    """Loads, unloads, pins and reloads models in every worker of a gateway.

    Args:
        plane: this worker's data plane.
        patience_s: longest time another worker may take for an operation.
    """

    def __init__(self, plane: DataPlane, patience_s: float = _PATIENCE_S) -> None:
        self._plane = plane
        self._patience_s = patience_s

    async def do(self, operation: str, value: Any) -> dict[str, Any]:
        """Run an operation here, then in every other worker.

        Args:
            operation: ``load``, ``unload``, ``pin`` or ``reload``.
            value: the operation's argument.

        Raises:
            TurnoutError: the operation failed here, and is run nowhere else; or it failed in
                another worker, with that worker's message.
        """
        value = self._with_plain_name(operation, value)
        result = await self._here(operation, value)
        if self._plane.peers is None:
            return result
        command = [operation, value]
        others, silent = await self._plane.peers.ask_all(_QUESTION, command, self._patience_s)
        problems = [reply["problem"] for reply in others if reply["problem"]]
        problems += [f"worker {name} did not answer" for name in silent]
        if problems:
            raise CapacityError(
                f"done, but not in every worker: {problems[0]}", retry_after_s=_AGAIN_S
            )
        return result

    def answers(self) -> Answers:
        """Return this worker's handler of the other workers' operations."""

        async def operate(command: Any) -> dict[str, Any]:
            operation, value = command
            try:
                await self._here(operation, value)
            except TurnoutError as error:
                return {"problem": str(error)}
            except Exception as error:
                logger.exception("operation %s from another worker failed here", operation)
                return {"problem": f"{type(error).__name__}: {error}"}
            return {"problem": None}

        return {_QUESTION: operate}

    async def _here(self, operation: str, value: Any) -> dict[str, Any]:
        pool = self._plane.fleet.pool
        if operation == "reload":
            return reload_catalog(self._plane, from_environment().catalog).as_json()
        if operation == "load":
            await pool.load(self._pooled_model(value), priority=0)
        elif operation == "unload":
            await pool.unload(self._pooled_model(value))
        elif operation == "pin":
            name, pinned = value
            await pool.pin(self._pooled_model(name), pinned)
            return {"pinned": pinned}
        return {}

    def _with_plain_name(self, operation: str, value: Any) -> Any:
        """Replace an alias by its plain model: workers may differ in aliases for a moment."""
        if operation == "reload":
            return value
        if operation == "pin":
            name, pinned = value
            return [self._pooled_model(name), pinned]
        return self._pooled_model(value)

    def _pooled_model(self, name: str) -> str:
        """Return the plain model in this process's pool that a name means.

        Raises:
            UnknownModel: there is no model of this name.
            InvalidRequest: the model runs elsewhere.
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
