"""An inference answer between ``InferResponse`` and its bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from runners.open_inference.messages import (
    InferResponse,
    read_parameters,
    read_tensors,
    read_text,
    split,
)
from runners.open_inference.writing import write

if TYPE_CHECKING:
    from turnout.types import Tensors


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
        model: who answered.
        version: of the model; None leaves it out.
        id: the request's own; None leaves it out.
        tensors: outputs by name.
        binary: names of the outputs to send as raw bytes (``InferRequest.binary``), or all.
        parameters: of the answer, such as the decision's id.

    Returns:
        headers (content type, and the JSON's length when anything is raw) and the body. A NaN or
        an infinity in a JSON output becomes ``null``; raw bytes keep it.
    """
    document: dict[str, Any] = {"model_name": model}
    if version is not None:
        document["model_version"] = version
    if id is not None:
        document["id"] = id
    if parameters:
        document["parameters"] = parameters
    if isinstance(binary, bool):
        binary = tuple(tensors) if binary else ()
    return write(document, "outputs", tensors, frozenset(binary))


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
