"""An inference request between its bytes and ``InferRequest``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from runners.open_inference import plain
from runners.open_inference.messages import (
    InferRequest,
    OutputWish,
    read_name,
    read_parameters,
    read_tensors,
    read_text,
    split,
)
from runners.open_inference.writing import write
from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from turnout.types import Tensors

_KEYS = frozenset({"id", "inputs", "outputs", "parameters"})


def decode_request(body: bytes | memoryview, header_length: int | None) -> InferRequest:
    """Read the body of ``POST /v2/models/{model}/infer``.

    Args:
        body: JSON, followed by raw tensors when ``header_length`` is given.
        header_length: bytes of JSON, from ``header_length_of``; None when all of it is JSON.

    Raises:
        InvalidRequest: says which tensor or key is wrong, and how.
    """
    if header_length is None and (found := plain.read(body)) is not None:
        return found
    document, raw = split(body, header_length)
    parameters = read_parameters(document, "the request")
    return InferRequest(
        id=read_text(document, "id"),
        tensors=read_tensors(document.get("inputs"), raw, "inputs"),
        outputs=_wishes(document.get("outputs")),
        binary_output=_flag(parameters, "binary_data_output", "the request") or False,
        parameters=parameters,
        extra={key: document[key] for key in document.keys() - _KEYS},
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
        id: echoed in the answer.
        outputs: the outputs to ask for; empty means all.
        binary: send tensors as raw bytes, and ask for the outputs the same way.
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
    return write(document, "inputs", tensors, frozenset(tensors) if binary else frozenset())


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
