"""Pipelines over HTTP: a shop's own JSON, and the Open Inference Protocol.

``POST /v1/pipelines/NAME`` takes ``{"inputs": {"query": "red shoes"}, "parameters": {...},
"limit": 10}`` and answers with one object a row. ``/v2/models/NAME`` is a model like any other,
with the parameters among the request's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from runners.open_inference import decode_request, encode_response, header_length_of
from services.dataplane.data_plane import DataPlane
from services.http.messages import Headers, HttpRequest, Reply, json_object, json_reply
from services.pipelines.registry import PipelineRegistry
from services.pipelines.types import PipelineRequest, PipelineResult
from services.protocols.json_body import JsonBody
from services.protocols.routing_options import ROUTING_KEYS, read_options
from services.protocols.tensor_inputs import check, read_tensors, spec_json
from turnout.catalog.pipeline import Stage
from turnout.errors import InvalidRequest
from turnout.types import Limits, Tensors

_LENGTH = b"inference-header-content-length"
_MAX_ROWS = 1000


class PipelineParameters(JsonBody):
    """The parameters of a request, and the row limit of its answer."""

    parameters: dict[str, Any] | None = None
    limit: Annotated[int, Field(ge=1, le=_MAX_ROWS)] | None = None


class PipelineBody(PipelineParameters):
    """The body of ``POST /v1/pipelines/NAME``, without the routing options."""

    inputs: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it


class PipelineProtocol:
    """The adapter over the pipelines of one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._pipelines = PipelineRegistry(plane)

    async def native(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v1/pipelines/NAME``: answer a native body."""
        result = await self.answer(name, json_object(http), http.headers)
        return json_reply(native_json(name, result), 200, _headers(result))

    async def answer(
        self, name: str, body: dict[str, Any], headers: dict[bytes, bytes]
    ) -> PipelineResult:
        """Answer a native body.

        Raises:
            TurnoutError: see ``PipelineRegistry.run``.
        """
        arrived_s = self._plane.clock()
        pipeline_body = PipelineBody.read(body, besides=ROUTING_KEYS)
        routing = {key: body[key] for key in ROUTING_KEYS if body.get(key) is not None}
        specs = self._pipelines.plans[name].signature.inputs
        tensors = read_tensors(specs, pipeline_body.inputs)
        return await self._run(name, tensors, pipeline_body, headers, routing, arrived_s)

    async def infer(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/models/NAME/infer``: answer tensors with tensors."""
        arrived_s = self._plane.clock()
        request = decode_request(http.body, header_length_of(http.headers.get(_LENGTH)))
        words = {k: v for k, v in request.parameters.items() if not k.startswith("binary_data")}
        routing = request.extra.get("routing") or {
            key: words.pop(key) for key in ROUTING_KEYS if key in words
        }
        limit = words.pop("limit", None)
        parameters = PipelineParameters.read({"parameters": words, "limit": limit})
        result = await self._run(
            name, request.tensors, parameters, http.headers, routing, arrived_s
        )
        headers, body = encode_response(
            name,
            "1",
            request.id,
            request.chosen(result.tensors),
            binary=request.binary(result.tensors),
            parameters={"decisions": {each.stage: each.decision_id for each in result.stages}},
        )
        encoded = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        return Reply(200, [*encoded, *_headers(result)], body)

    async def _run(
        self,
        name: str,
        tensors: Tensors,
        parameters: PipelineParameters,
        headers: Mapping[bytes, bytes],
        routing: object,
        arrived_s: float,
    ) -> PipelineResult:
        options = read_options(headers, routing)
        request = PipelineRequest(
            check(self._pipelines.plans[name].signature, tensors),
            arrived_s,
            _texts(parameters.parameters or {}),
            options.latency_class,
            options.deadline_ms,
            Limits(options.max_cost_usd, options.min_quality),
            parameters.limit,
            options.trace_id,
            options.session,
        )
        return await self._pipelines.run(name, request)

    async def metadata(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/NAME``: tensors, stages and parameters."""
        plan = self._pipelines.plans[name]
        pipeline = plan.pipeline
        return json_reply(
            {
                "name": name,
                "versions": ["1"],
                "platform": "turnout_pipeline",
                "inputs": [spec_json(spec) for spec in plan.inputs.values()],
                "outputs": [spec_json(spec) for spec in plan.outputs.values()],
                "parameters": {
                    "latency_class": pipeline.latency_class,
                    "stages": {stage: pipeline.stages[stage].route for stage in plan.order},
                    "values": {name: list(values) for name, values in plan.values.items()},
                },
            }
        )

    async def ready(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/NAME/ready``: every stage has a route with a model that serves."""
        plan = self._pipelines.plans[name]
        ready = all(self._serves(plan.pipeline.stages[stage]) for stage in plan.order)
        return json_reply({"name": name, "ready": ready}, 200 if ready else 503)

    def _serves(self, stage: Stage) -> bool:
        catalog, fleet = self._plane.catalog, self._plane.fleet
        return any(
            fleet.serves(model)
            for target in catalog.names
            if stage.matches(target) is not None
            for model in catalog.models_of(target)
        )


def native_json(name: str, result: PipelineResult) -> dict[str, Any]:
    """Return an answer as JSON values: one object a row, then its stages."""
    columns = {key: _json_values(tensor) for key, tensor in result.tensors.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]
    return {
        "id": result.id,
        "pipeline": name,
        "trace_id": result.trace_id,
        "results": rows,
        "ms": round(result.ms, 3),
        "stages": [
            {
                "stage": each.stage,
                "route": each.route,
                "model": each.model,
                "decision_id": each.decision_id,
                "ms": round(each.ms, 3),
            }
            for each in result.stages
        ],
    }


def _texts(parameters: Mapping[str, Any]) -> Mapping[str, str]:
    """Check that parameters are text; the error names the parameter itself.

    Raises:
        InvalidRequest: a parameter is no text.
    """
    for name, value in parameters.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"parameter {name} must be text, got {value!r}", param=name)
    return parameters


def _headers(result: PipelineResult) -> Headers:
    stages = ", ".join(f"{each.stage}={each.model}" for each in result.stages)
    return [
        (b"x-turnout-decision", result.id.encode()),
        (b"x-turnout-stages", stages.encode()),
    ]


def _json_values(tensor: np.ndarray[Any, Any]) -> list[Any]:
    if tensor.dtype == object:
        return [value.decode("utf-8", "replace") for value in tensor]
    return tensor.tolist()
