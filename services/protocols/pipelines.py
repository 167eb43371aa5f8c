"""Pipelines over HTTP: a shop's own JSON, and the Open Inference Protocol.

``POST /v1/pipelines/NAME`` takes ``{"inputs": {"query": "red shoes"}, "parameters": {...},
"limit": 10}`` and answers with one object a row. ``/v2/models/NAME`` is a model like any other,
with the parameters among the request's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from runners.open_inference import decode_request, encode_response, header_length_of
from services.dataplane.data_plane import DataPlane
from services.http.messages import Headers, HttpRequest, Reply, json_object, json_reply
from services.pipelines.pipelines import Pipelines
from services.pipelines.types import PipelineRequest, PipelineResult
from services.protocols import routing_options as options
from services.protocols.native import read_tensors
from services.protocols.open_inference import ROUTING_KEYS, spec_json
from turnout.errors import InvalidRequest

_LENGTH = b"inference-header-content-length"
_KEYS = frozenset({"inputs", "parameters", "limit", *ROUTING_KEYS})
_MOST_ROWS = 1000


class PipelineProtocol:
    """Adapter over the pipelines of one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._pipelines = Pipelines(plane)

    async def native(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v1/pipelines/NAME``."""
        composed = await self.answer(name, json_object(http), http.headers)
        return json_reply(native_json(name, composed), 200, _headers(composed))

    async def answer(
        self, name: str, body: dict[str, Any], headers: dict[bytes, bytes]
    ) -> PipelineResult:
        """Answer a native body.

        Raises:
            TurnoutError: see ``Pipelines.run``.
        """
        now_s = self._plane.clock()
        unknown = [str(key) for key in body if key not in _KEYS]
        if unknown:
            raise InvalidRequest(
                f"unknown key {', '.join(unknown)}; there are {', '.join(sorted(_KEYS))}",
                param=unknown[0],
            )
        said = {key: body[key] for key in ROUTING_KEYS if body.get(key) is not None}
        inputs = body.get("inputs")
        specs = self._pipelines.plans[name].signature.inputs
        if not isinstance(inputs, dict):
            names = ", ".join(spec.name for spec in specs)
            raise InvalidRequest(f"inputs must be an object with {names}", param="inputs")
        asked = PipelineRequest(
            read_tensors(specs, inputs),
            _words(body.get("parameters")),
            options.read(headers, said),
            _limit(body.get("limit")),
            now_s,
        )
        return await self._pipelines.run(name, asked)

    async def infer(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/models/NAME/infer``."""
        now_s = self._plane.clock()
        infer = decode_request(http.body, header_length_of(http.headers.get(_LENGTH)))
        given = dict(infer.parameters)
        said = infer.extra.get("routing") or {
            key: given.pop(key) for key in ROUTING_KEYS if key in given
        }
        limit = _limit(given.pop("limit", None))
        for key in [key for key in given if key.startswith("binary_data")]:
            del given[key]
        asked = PipelineRequest(
            infer.tensors, _words(given), options.read(http.headers, said), limit, now_s
        )
        composed = await self._pipelines.run(name, asked)
        headers, body = encode_response(
            name,
            "1",
            infer.id,
            infer.chosen(composed.tensors),
            binary=infer.binary(composed.tensors),
            parameters={"decisions": {one.stage: one.decision_id for one in composed.stages}},
        )
        written = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        return Reply(200, [*written, *_headers(composed)], body)

    async def metadata(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/NAME``: tensors, stages and parameters."""
        del http
        made = self._pipelines.plans[name]
        pipeline = made.pipeline
        return json_reply(
            {
                "name": name,
                "versions": ["1"],
                "platform": "turnout_pipeline",
                "inputs": [spec_json(spec) for spec in made.inputs.values()],
                "outputs": [spec_json(spec) for spec in made.outputs.values()],
                "parameters": {
                    "latency_class": pipeline.latency_class,
                    "stages": {stage: pipeline.stages[stage].route for stage in made.order},
                    "values": {word: list(values) for word, values in made.values.items()},
                },
            }
        )

    async def ready(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/NAME/ready``: every stage has a route with a model that serves."""
        del http
        made = self._pipelines.plans[name]
        ready = all(self._serves(made.pipeline.stages[stage]) for stage in made.order)
        return json_reply({"name": name, "ready": ready}, 200 if ready else 503)

    def _serves(self, stage: Any) -> bool:
        catalog, fleet = self._plane.catalog, self._plane.fleet
        return any(
            fleet.serves(model)
            for target in catalog.names
            if stage.matches(target) is not None
            for model in catalog.models_of(target)
        )


def native_json(name: str, composed: PipelineResult) -> dict[str, Any]:
    """An answer as a shop reads it: one object a row, then how it came about."""
    columns = {key: _plain(tensor) for key, tensor in composed.tensors.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]
    return {
        "id": composed.id,
        "pipeline": name,
        "trace_id": composed.trace_id,
        "results": rows,
        "ms": round(composed.ms, 3),
        "stages": [
            {
                "stage": one.stage,
                "route": one.route,
                "model": one.model,
                "decision_id": one.decision_id,
                "ms": round(one.ms, 3),
            }
            for one in composed.stages
        ],
    }


def _headers(composed: PipelineResult) -> Headers:
    stages = ", ".join(f"{one.stage}={one.model}" for one in composed.stages)
    return [
        (b"x-turnout-decision", composed.id.encode()),
        (b"x-turnout-stages", stages.encode()),
    ]


def _plain(tensor: np.ndarray[Any, Any]) -> list[Any]:
    if tensor.dtype == object:
        return [value.decode("utf-8", "replace") for value in tensor]
    return tensor.tolist()


def _words(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidRequest("parameters must be an object of texts", param="parameters")
    for key, value in given.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"parameter {key} must be a text, got {value!r}", param=str(key))
    return given


def _limit(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_ROWS:
        raise InvalidRequest(f"limit must be 1 to {_MOST_ROWS}, got {value!r}", param="limit")
    return value
