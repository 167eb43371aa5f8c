"""Turnout's own endpoints: decide without running, look decisions up, give feedback."""

from __future__ import annotations

import asyncio
from typing import Any

from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_record import decision_json
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from services.protocols.routing_options import (
    ROUTING_KEYS,
    new_request,
    read_options,
    signature_for,
    task_of,
)
from services.protocols.tensor_inputs import read_inputs
from turnout.errors import InvalidRequest, UnknownRoute
from turnout.types import Task

_KEYS = frozenset({"route", "model", "inputs", "routing", *ROUTING_KEYS})


class NativeProtocol:
    """The adapter of Turnout's own endpoints over one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def route(self, http: HttpRequest) -> Reply:
        """``POST /v1/route``: the decision for a request, without running it."""
        return json_reply(self.decide(json_object(http), http.headers))

    def decide(self, body: dict[str, Any], headers: dict[bytes, bytes]) -> dict[str, Any]:
        """Return the decision for a route body, as JSON values.

        Raises:
            InvalidRequest: a key is unknown, missing or of the wrong kind.
        """
        unknown = [str(key) for key in body if key not in _KEYS]
        if unknown:
            raise InvalidRequest(
                f"unknown key {', '.join(unknown)}; there are {', '.join(sorted(_KEYS))}",
                param=unknown[0],
            )
        options = read_options(headers, _routing(body))
        name = body.get("route") or body.get("model") or "auto"
        inputs = body.get("inputs")
        if not isinstance(name, str):
            raise InvalidRequest("route must be a string", param="route")
        if not isinstance(inputs, dict):
            raise InvalidRequest(
                'inputs must be an object, such as {"messages": [...]} or {"features": [[...]]}',
                param="inputs",
            )
        task = _task_of_inputs(inputs) if name == "auto" else self._task(name)
        signature = signature_for(self._plane.catalog, name, task)
        values = read_inputs(task, signature, inputs)
        request = new_request(self._plane, name, task, values, options, self._plane.clock())
        return decision_json(self._plane.decide(request).decision)

    async def decision(self, http: HttpRequest, decision_id: str) -> Reply:
        """``GET /v1/decisions/{id}``: the whole trace of a past decision."""
        record = self._plane.log.get(decision_id)
        if record is not None:
            return json_reply(record.as_json())
        document = await self._ask_peers("decision", decision_id)
        if document is not None:
            return json_reply(document)
        stages = await self._stages(decision_id)
        if not stages:
            return _not_known(decision_id)
        return json_reply({"decision_id": decision_id, "stages": stages})

    async def no_pipeline(self, http: HttpRequest, name: str) -> Reply:
        """Refuse any other path under ``/v1/pipelines/``.

        Raises:
            UnknownRoute: always.
        """
        raise UnknownRoute(name, tuple(self._plane.catalog.pipelines))

    async def feedback(self, http: HttpRequest) -> Reply:
        """``POST /v1/feedback``: ``{"decision_id", "score": 0..1, "comment"}``."""
        body = json_object(http)
        name, score, comment = (body.get(key) for key in ("decision_id", "score", "comment"))
        if not isinstance(name, str):
            raise InvalidRequest("decision_id must be a string", param="decision_id")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise InvalidRequest(
                f"score must be a number from 0 (bad) to 1 (good), got {score!r}", param="score"
            )
        if comment is not None and not isinstance(comment, str):
            raise InvalidRequest("comment must be a string", param="comment")
        feedback = {"score": float(score), "comment": comment}
        accepted = self._plane.feedback(name, feedback) or await self._ask_peers(
            "feedback", {"decision_id": name, "said": feedback}
        )
        if not accepted:
            return _not_known(name)
        return json_reply({"decision_id": name, "accepted": True}, 202)

    async def _ask_peers(self, question: str, value: Any) -> Any:
        """Return the first answer of the gateway's other workers; None where there is none."""
        if self._plane.peers is None:
            return None
        return next((each for each in await self._plane.peers.ask(question, value) if each), None)

    async def routers(self, http: HttpRequest) -> Reply:
        """``GET /v1/router``: the trained routers, the canary's share and the evidence on it."""
        return json_reply(self._state(self._plane.routers.state() if self._plane.routers else {}))

    async def reload(self, http: HttpRequest) -> Reply:
        """``POST /v1/router/reload``: load changed routers from their folders now.

        Answers 409 when a router was refused; the old one stays.
        """
        plane, state = self._plane, {}
        if plane.routers is not None:
            state = await asyncio.to_thread(plane.routers.reload)
        if plane.feature_routers is not None:
            await asyncio.to_thread(plane.feature_routers.reload)
        state = self._state(state)
        parts = (*state.get("routers", {}).values(), *state.get("feature_routers", {}).values())
        return json_reply(state, 409 if any(part["problem"] for part in parts) else 200)

    def _state(self, of_prompts: dict[str, Any]) -> dict[str, Any]:
        """Return the state of every trained router.

        Raises:
            InvalidRequest: there is no trained router.
        """
        learned = self._plane.feature_routers
        if not of_prompts and learned is None:
            raise InvalidRequest(
                "no route here has a trained router: none of chat chooses, and "
                "TURNOUT_FEATURE_ROUTERS names none"
            )
        return of_prompts | ({} if learned is None else {"feature_routers": learned.state()})

    async def _stages(self, name: str) -> dict[str, Any]:
        """Return the decisions of a pipeline's request, by stage."""
        pipelines = self._plane.catalog.pipelines.values()
        stages: dict[str, Any] = {}
        for stage in dict.fromkeys(stage for pipeline in pipelines for stage in pipeline.stages):
            record = self._plane.log.get(f"{name}.{stage}")
            document = record.as_json() if record else None
            document = document or await self._ask_peers("decision", f"{name}.{stage}")
            if document is not None:
                stages[stage] = document
        return stages

    def _task(self, name: str) -> Task:
        catalog = self._plane.catalog
        if catalog.named(name) is None:
            raise UnknownRoute(name, ("auto", *catalog.names))
        return task_of(catalog, name)


def _routing(body: dict[str, Any]) -> object:
    """Return a route body's routing options: top-level keys, or a ``routing`` object (wins)."""
    beside = {key: body[key] for key in ROUTING_KEYS if body.get(key) is not None}
    inside = body.get("routing")
    if inside is None:
        return beside
    return beside | inside if isinstance(inside, dict) else inside


def _task_of_inputs(inputs: dict[str, Any]) -> Task:
    names = {"messages": Task.CHAT, "image": Task.IMAGE, "features": Task.TABULAR,
             "text": Task.EMBED}  # fmt: skip
    for name, task in names.items():
        if name in inputs:
            return task
    raise InvalidRequest(
        f"inputs must hold one of {', '.join(names)}, or name a route", param="inputs"
    )


def _not_known(name: str) -> Reply:
    message = f"no decision {name!r} is remembered; the gateway keeps the latest ones"
    error = {"code": "unknown_decision", "message": message, "param": "decision_id"}
    return json_reply({"error": error}, 404)
