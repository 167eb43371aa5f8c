"""The Open Inference Protocol over one classifier, independent of any server.

``services.coldstart.server`` and the Lambda handler both call this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.coldstart.classifier import Classifier

INFER = "/v2/models/{model}/infer"
_HEADER_LENGTH = "inference-header-content-length"
_JSON = {"content-type": "application/json"}


class Reply(NamedTuple):
    """An HTTP reply."""

    status: int
    headers: dict[str, str]
    body: bytes


def first_row(classifier: Classifier, image: bytes) -> dict[str, Any]:
    """Classify one picture and return plain values.

    Raises:
        InvalidRequest: the file is not a JPEG or PNG.
        RunnerError: the model could not be loaded, or the run failed.
    """
    import numpy as np

    rows = np.empty(1, dtype=object)
    rows[0] = image
    outputs = classifier.classify({"image": rows})
    return {
        "class_id": int(outputs["class_id"][0]),
        "class_name": outputs["class_name"][0].decode(),
        "score": round(float(outputs["score"][0]), 6),
    }


class Endpoints:
    """Maps requests (method, path, headers, body) to replies.

    Args:
        classifier: a started one.

    Attributes:
        draining: whether this process reports that it is not ready.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._infer_path = INFER.format(model=classifier.name)
        self.draining = False

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return the reply to one request.

        Args:
            method: in capitals.
            path: without the query.
            headers: with lower-case names.
            body: complete.
        """
        try:
            if method == "POST":
                return self._post(path, headers, body)
            return self._get(path)
        except Exception as error:  # noqa: BLE001  (every error has a reply)
            return error_reply(error)

    def _post(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        from turnout.errors import UnknownModel

        if path != self._infer_path:
            named = path.removeprefix("/v2/models/").removesuffix("/infer")
            raise UnknownModel(named, (self._classifier.name,))
        from runners.open_inference import decode_request, encode_response, header_length_of

        request = decode_request(body, header_length_of(headers.get(_HEADER_LENGTH)))
        outputs = self._classifier.classify(request.tensors)
        response_headers, answer = encode_response(
            self._classifier.name,
            "1",
            request.id,
            request.chosen(outputs),
            binary=request.binary(outputs),
        )
        return Reply(200, {name.lower(): value for name, value in response_headers.items()}, answer)

    def _get(self, path: str) -> Reply:
        from turnout.errors import UnknownModel

        model = f"/v2/models/{self._classifier.name}"
        ready = self._classifier.ready and not self.draining
        if path == "/v2/health/live":
            return _json_reply({"live": True})
        if path in ("/readyz", "/v2/health/ready"):
            return _json_reply({"ready": ready}, 200 if ready else 503)
        if path == f"{model}/ready":
            return _json_reply(
                {"name": self._classifier.name, "ready": ready}, 200 if ready else 503
            )
        if path == model:
            return _json_reply(self._metadata())
        raise UnknownModel(path, (model, f"{model}/ready", "/readyz", "/v2/health/live"))

    def _metadata(self) -> dict[str, Any]:
        from turnout.types import SIGNATURES, Task

        signature = SIGNATURES[Task.IMAGE]
        active = self._classifier.active
        return {
            "name": self._classifier.name,
            "versions": ["1"],
            "platform": "turnout_onnx",
            "inputs": [_spec(spec) for spec in signature.inputs],
            "outputs": [_spec(spec) for spec in signature.outputs],
            "parameters": {
                "state": "ready" if active else "loading",
                "provider": active.provider if active else None,
            },
        }


def error_reply(error: Exception) -> Reply:
    """Return the gateway's reply to an error; its table is imported at the first error."""
    from services.protocols.errors import open_inference

    reply = open_inference(error)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Reply(reply.status, headers, bytes(reply.body))  # type: ignore[arg-type]


def _json_reply(value: dict[str, Any], status: int = 200) -> Reply:
    import orjson

    return Reply(status, dict(_JSON), orjson.dumps(value))


def _spec(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
