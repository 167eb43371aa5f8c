"""Open Inference Protocol v2 over REST: health, metadata, ``infer`` with binary tensors.

Source: the Open Inference Protocol (KServe v2) REST specification and its binary tensor data
extension, as Triton documents it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from runners.open_inference import (
    InferRequest,
    decode_request,
    encode_response,
    header_length_of,
    read_request,
    response_document,
)
from services.dataplane.answer import Answer, Stream
from services.dataplane.data_plane import DataPlane
from services.fleet.status import status, version_status
from services.http.messages import HttpRequest, Reply, json_reply
from services.protocols.response_headers import decision_headers
from services.protocols.routing_options import ROUTING_KEYS, new_request, read_options, task_of
from services.protocols.tensor_inputs import check, spec_json
from turnout.catalog import split
from turnout.errors import InvalidRequest, UnknownModel
from turnout.types import Generation, Message, Signature, Task, Tensors

_LENGTH = b"inference-header-content-length"
ONLY = "1"


@dataclass(frozen=True, slots=True)
class _Target:
    """A model or route, its task and its public tensors."""

    name: str
    task: Task
    signature: Signature


class OpenInferenceProtocol:
    """The Open Inference Protocol adapter over one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._catalog = plane.catalog
        self._targets: dict[str, _Target] = {}

    def _target(self, name: str) -> _Target:
        """Return a model or route, cached: its signature costs more than a small model's run.

        Raises:
            UnknownModel: there is no model or route of this name.
        """
        catalog = self._plane.catalog
        if catalog is not self._catalog:  # a reload may have changed what a name means
            self._catalog, self._targets = catalog, {}
        target = self._targets.get(name)
        if target is None:
            task, signature = task_of(catalog, name), catalog.signature_of(name)
            if signature is None:
                raise UnknownModel(name, catalog.names)
            target = self._targets[name] = _Target(name, task, signature)
        return target

    async def server(self, http: HttpRequest) -> Reply:
        """``GET /v2``: name, version and extensions of the server."""
        extensions = ["binary_tensor_data", "model_repository"]
        return json_reply(
            {"name": "turnout", "version": version("turnout"), "extensions": extensions}
        )

    async def live(self, http: HttpRequest) -> Reply:
        """``GET /v2/health/live``: always true."""
        return json_reply({"live": True})

    async def ready(self, http: HttpRequest) -> Reply:
        """``GET /v2/health/ready``: the most urgent models are warm."""
        ready = self._plane.fleet.urgent_ready() and not self._plane.draining
        return json_reply({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/{name}/ready``: a route is ready when one of its models is."""
        task_of(self._plane.catalog, name)
        models = self._plane.catalog.models_of(name)
        ready = any(self._plane.fleet.serves(model) for model in models)
        return json_reply({"name": split(name)[0], "ready": ready}, 200 if ready else 503)

    async def metadata(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/{name}``: tensors, and the engine that runs."""
        signature = self._target(name).signature
        return json_reply(
            {
                "name": split(name)[0],
                "versions": self._versions(name),
                "platform": self._platform(name),
                "inputs": [spec_json(spec) for spec in signature.inputs],
                "outputs": [spec_json(spec) for spec in signature.outputs],
                "parameters": self._parameters(name),
            }
        )

    async def infer(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v2/models/{name}/infer``: answer tensors with tensors."""
        now_s = self._plane.clock()
        target = self._target(name)
        infer = decode_request(http.body, header_length_of(http.headers.get(_LENGTH)))
        answer, outputs = await self._run(infer, target, http.headers, now_s)
        headers, body = encode_response(
            *self._answer_name(name, answer.model),
            infer.id,
            infer.chosen(outputs),
            binary=infer.binary(outputs),
        )
        return Reply(
            200,
            [
                *((key.lower().encode(), value.encode()) for key, value in headers.items()),
                *decision_headers(answer),
            ],
            body,
        )

    async def infer_document(
        self, document: dict[str, Any], name: str, headers: Mapping[bytes, bytes]
    ) -> tuple[Answer | Stream, dict[str, Any]]:
        """Answer a request of JSON values; its outputs may be numpy arrays.

        Raises:
            InvalidRequest: it requests binary outputs, or see ``infer``.
        """
        now_s = self._plane.clock()
        target = self._target(name)
        infer = read_request(document)
        answer, outputs = await self._run(infer, target, headers, now_s)
        if infer.binary(outputs):
            raise InvalidRequest("a row of a batch takes JSON outputs only, no binary ones")
        own, version = self._answer_name(name, answer.model)
        return answer, response_document(own, version, infer.id, infer.chosen(outputs))

    async def _run(
        self, infer: InferRequest, target: _Target, headers: Mapping[bytes, bytes], now_s: float
    ) -> tuple[Answer | Stream, Tensors]:
        """Decide and run a request; return the answer and its public outputs."""
        plane, name, task = self._plane, target.name, target.task
        tensors = check(target.signature, infer.tensors)
        options = read_options(headers, _routing(infer))
        if task is not Task.CHAT:
            answer = await plane.infer(new_request(plane, name, task, tensors, options, now_s))
            return answer, answer.tensors
        generation = Generation((Message("user", _prompt(tensors["prompt"])),))
        stream = await plane.generate(new_request(plane, name, task, generation, options, now_s))
        text = "".join([piece.text async for piece in stream.pieces])
        return stream, {"text": np.array([text.encode()], object)}

    def _answer_name(self, name: str, model: str) -> tuple[str, str]:
        """Return an answer's name and version: a route has one, a model the one that answered."""
        if "@" in model and name not in self._plane.catalog.routes:
            own, version = split(model)
            return own, version or ONLY
        return name, ONLY

    def _versions(self, name: str) -> list[str]:
        versioned = self._plane.catalog.versioned.get(split(name)[0])
        return [ONLY] if versioned is None else list(versioned.versions)

    def _platform(self, name: str) -> str:
        model = self._plane.catalog.models.get(self._plane.catalog.model_called(name) or "")
        return f"turnout_{model.runner.engine}" if model else "turnout_route"

    def _parameters(self, name: str) -> dict[str, Any]:
        route = self._plane.catalog.routes.get(name)
        if route is not None:
            return {"candidates": list(route.candidates), "latency_class": route.latency_class}
        model = self._plane.catalog.model_called(name) or name
        parameters = status(self._plane.fleet, model).as_json()
        if "@" not in model:
            return parameters
        return parameters | version_status(self._plane.rollouts, model)


def _routing(infer: InferRequest) -> object:
    """Return the body's routing options: a ``routing`` object, or parameters of these names."""
    if "routing" in infer.extra:
        return infer.extra["routing"]
    parameters = infer.parameters
    if not parameters:
        return None
    return {key: parameters[key] for key in ROUTING_KEYS if key in parameters}


def _prompt(rows: np.ndarray[Any, Any]) -> str:
    """Return the only prompt of a request.

    Raises:
        InvalidRequest: there are several, or it is not UTF-8.
    """
    if len(rows) != 1:
        raise InvalidRequest("prompt: send one prompt a request", param="prompt")
    try:
        return rows[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"prompt is not UTF-8: {error}", param="prompt") from error
