"""Inference requests and answers between their bytes and ``InferRequest``, ``InferResponse``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from runners.open_inference.messages import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    OutputWish,
    read_name,
    read_parameters,
    read_plain,
    read_tensors,
    read_text,
    split,
)
from runners.open_inference.tensors import datatype_of, to_binary, to_json
from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from turnout.types import Tensors

_REQUEST_KEYS = frozenset({"id", "inputs", "outputs", "parameters"})
_NO_RAW = memoryview(b"")
_JSON_HEADERS = {"Content-Type": "application/json"}


def decode_request(body: bytes | memoryview, header_length: int | None) -> InferRequest:
    """Read the body of ``POST /v2/models/{model}/infer``.

    Args:
        body: JSON, followed by raw tensors where there is a ``header_length``.
        header_length: bytes of JSON, from ``header_length_of``; None when all of it is JSON.

    Raises:
        InvalidRequest: names the tensor or key that is wrong, and why.
    """
    if header_length is None and (plain := read_plain(body)) is not None:
        return plain
    return read_request(*split(body, header_length))


def read_request(document: dict[str, Any], raw: memoryview = _NO_RAW) -> InferRequest:
    """Read a request whose JSON is parsed.

    Args:
        document: the JSON object.
        raw: the raw tensors behind it.

    Raises:
        InvalidRequest: names the tensor or key that is wrong, and why.
    """
    parameters = read_parameters(document, "the request")
    return InferRequest(
        id=read_text(document, "id"),
        tensors=read_tensors(document.get("inputs"), raw, "inputs"),
        outputs=_wishes(document.get("outputs")),
        binary_output=_flag(parameters, "binary_data_output", "the request") or False,
        parameters=parameters,
        extra={key: document[key] for key in document.keys() - _REQUEST_KEYS},
    )


def encode_request(
    tensors: Tensors,
    *,
    id: str | None = None,
    outputs: Collection[str] = (),
    binary: bool = True,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[dict[str, str], bytes]:
    """Write a request; the inverse of ``decode_request``.

    Args:
        tensors: inputs by name.
        id: returned with the answer.
        outputs: names of the outputs to request; empty means all.
        binary: send tensors as raw bytes, and request the outputs as such.
        parameters: the request's own.

    Returns:
        headers to send, and the body.
    """
    document: dict[str, Any] = {} if id is None else {"id": id}
    document["parameters"] = {**(parameters or {}), "binary_data_output": binary}
    if outputs:
        document["outputs"] = [
            {"name": name, "parameters": {"binary_data": binary}} for name in outputs
        ]
    return _write(document, "inputs", tensors, frozenset(tensors) if binary else frozenset())


def encode_response(
    model: str,
    version: str | None,
    id: str | None,
    tensors: Tensors,
    *,
    binary: bool | Collection[str] = False,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[dict[str, str], bytes]:
    """Write the answer to an inference request.

    Args:
        model: name of the model that answered.
        version: of the model; None leaves it out.
        id: the request's own; None leaves it out.
        tensors: outputs by name.
        binary: names of the outputs to send as raw bytes (``InferRequest.binary``), or all.
        parameters: of the answer, such as the decision's id.

    Returns:
        headers (content type, and the JSON's length when anything is raw) and the body. A NaN or
        an infinity in a JSON output becomes ``null``; raw bytes keep it.
    """
    document = _response(model, version, id, parameters)
    if isinstance(binary, bool):
        binary = tuple(tensors) if binary else ()
    return _write(document, "outputs", tensors, frozenset(binary))


def response_document(
    model: str, version: str | None, id: str | None, tensors: Tensors
) -> dict[str, Any]:
    """An answer as JSON values, but for its numbers, which stay numpy arrays.

    Arguments are those of ``encode_response``.
    """
    document = _response(model, version, id, None)
    _add_tensors(document, "outputs", tensors, frozenset())
    return document


def decode_response(body: bytes | memoryview, header_length: int | None) -> InferResponse:
    """Read an answer; the inverse of ``encode_response``.

    Raises:
        InvalidRequest: the answer is malformed; a client reports it as the upstream's failure.
    """
    document, raw = split(body, header_length)
    return InferResponse(
        model=read_text(document, "model_name") or "",
        version=read_text(document, "model_version"),
        id=read_text(document, "id"),
        tensors=read_tensors(document.get("outputs"), raw, "outputs"),
        parameters=read_parameters(document, "the answer"),
    )


def _write(
    document: dict[str, Any], key: str, tensors: Tensors, binary: frozenset[str]
) -> tuple[dict[str, str], bytes]:
    """Add ``tensors`` to ``document`` under ``key`` and write both.

    Returns:
        headers and body.
    """
    raw = _add_tensors(document, key, tensors, binary)
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return dict(_JSON_HEADERS), text
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return headers, b"".join([text, *raw])


def _response(
    model: str, version: str | None, id: str | None, parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    document: dict[str, Any] = {"model_name": model}
    if version is not None:
        document["model_version"] = version
    if id is not None:
        document["id"] = id
    if parameters:
        document["parameters"] = parameters
    return document


def _add_tensors(
    document: dict[str, Any], key: str, tensors: Tensors, binary: frozenset[str]
) -> list[bytes | memoryview]:
    """Add ``tensors`` to ``document`` under ``key``.

    Returns:
        the raw bytes of those in ``binary``, in their order.
    """
    raw: list[bytes | memoryview] = []
    entries: list[dict[str, Any]] = []
    for name, value in tensors.items():
        array = np.asarray(value)
        datatype = datatype_of(array.dtype)
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if name in binary:
            data = to_binary(array, datatype)
            raw.append(data)
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"], parameters = to_json(array, datatype)
            if parameters:
                entry["parameters"] = parameters
        entries.append(entry)
    document[key] = entries
    return raw


def _wishes(entries: object) -> tuple[OutputWish, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise InvalidRequest("outputs must be a list", param="outputs")
    wishes: list[OutputWish] = []
    for index, entry in enumerate(entries):
        name, spot = read_name(entry, f"outputs[{index}]")
        if any(wish.name == name for wish in wishes):
            raise InvalidRequest(f"{spot}: asked for twice", param="outputs")
        wishes.append(OutputWish(name, _flag(read_parameters(entry, spot), "binary_data", spot)))
    return tuple(wishes)


def _flag(parameters: Mapping[str, Any], key: str, where: str) -> bool | None:
    value = parameters.get(key)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{where}: {key} must be true or false, got {value!r}", param=key)
    return value
