"""An inference request and its answer as dataclasses, and how both are read from bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import orjson

from runners.open_inference.tensors import Array, from_binary, from_json
from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from turnout.types import Tensors

HEADER_LENGTH = "Inference-Header-Content-Length"
_PLAIN_DTYPES = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_PLAIN_LIMITS = {dtype: float(np.finfo(dtype).max) for dtype in _PLAIN_DTYPES.values()}
_MAX_PLAIN_AXES = 32


@dataclass(frozen=True, slots=True)
class OutputWish:
    """A requested output; ``binary`` None leaves it to the request's default."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """An inference request.

    Attributes:
        id: the caller's; None when there is none.
        tensors: inputs by name. Read-only arrays may share the request's body.
        outputs: the requested outputs; empty means all.
        binary_output: outputs without a wish of their own are sent as raw bytes.
        parameters: the request's own parameters.
        extra: top-level keys beyond the protocol's, for extensions such as ``routing``.
    """

    id: str | None
    tensors: dict[str, Array]
    outputs: tuple[OutputWish, ...] = ()
    binary_output: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self, produced: Tensors) -> dict[str, Array]:
        """Return the requested outputs, in the order requested.

        Raises:
            InvalidRequest: a requested output was not produced.
        """
        if not self.outputs:
            return dict(produced)
        for wish in self.outputs:
            if wish.name not in produced:
                raise InvalidRequest(
                    f"outputs: no output is named {wish.name!r}; there are {', '.join(produced)}",
                    param="outputs",
                )
        return {wish.name: produced[wish.name] for wish in self.outputs}

    def binary(self, names: Mapping[str, Any]) -> frozenset[str]:
        """Return the names of those outputs that are sent as raw bytes."""
        if not self.outputs:
            return frozenset(names) if self.binary_output else frozenset()
        wishes = {wish.name: wish.binary for wish in self.outputs}
        return frozenset(
            name
            for name in names
            if (self.binary_output if wishes.get(name) is None else wishes[name])
        )


@dataclass(frozen=True, slots=True)
class InferResponse:
    """An answer to an inference request, as a client reads it."""

    model: str
    version: str | None
    id: str | None
    tensors: dict[str, Array]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def header_length_of(value: str | bytes | None) -> int | None:
    """Read the ``Inference-Header-Content-Length`` header; None when there is none.

    Raises:
        InvalidRequest: the header is not a whole number.
    """
    if value is None:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest(
            f"header {HEADER_LENGTH} must be a whole number, got {text!r}", param=HEADER_LENGTH
        )
    return int(text)


def split(body: bytes | memoryview, header_length: int | None) -> tuple[dict[str, Any], memoryview]:
    """Split a body into its JSON object and the raw bytes after it.

    Raises:
        InvalidRequest: the length does not fit, or the first part is no JSON object.
    """
    view = memoryview(body)
    if header_length is not None and not 0 <= header_length <= len(view):
        raise InvalidRequest(
            f"header {HEADER_LENGTH} says {header_length} bytes of JSON, the body has {len(view)}: "
            "it was cut short, or the header is wrong",
            param=HEADER_LENGTH,
        )
    end = len(view) if header_length is None else header_length
    try:
        document = orjson.loads(view[:end])
    except orjson.JSONDecodeError as error:
        hint = f" (raw tensors need the header {HEADER_LENGTH})" if header_length is None else ""
        raise InvalidRequest(f"the body is not valid JSON: {error}{hint}") from error
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return document, view[end:]


def read_tensors(entries: object, raw: memoryview, where: str) -> dict[str, Array]:
    """Read a list of tensor entries; binary ones take their bytes from ``raw`` in order.

    Raises:
        InvalidRequest: any entry is malformed, or ``raw`` is too short or too long.
    """
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest(f"{where} must be a list with at least one tensor", param=where)
    tensors: dict[str, Array] = {}
    position = 0
    for index, entry in enumerate(entries):
        name, spot = read_name(entry, f"{where}[{index}]")
        if name in tensors:
            raise InvalidRequest(f"{spot}: there are two tensors of this name", param=where)
        size = _binary_size(entry, spot)
        if size is None:
            tensors[name] = from_json(entry, spot)
            continue
        if position + size > len(raw):
            raise InvalidRequest(
                f"{spot}: binary_data_size is {size} but {len(raw) - position} bytes are left in "
                "the body",
                param="binary_data_size",
            )
        tensors[name] = from_binary(entry, raw[position : position + size], spot)
        position += size
    if position != len(raw):
        raise InvalidRequest(
            f"{len(raw) - position} bytes at the end of the body belong to no tensor",
            param="binary_data_size",
        )
    return tensors


def read_name(entry: object, where: str) -> tuple[str, str]:
    """Return an entry's name, and its place as error messages name it."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where} must be an object with a name", param="name")
    return name, f"{where} ({name!r})"


def read_parameters(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return an entry's parameters; absent or null is empty."""
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}: parameters must be an object", param="parameters")
    return parameters


def read_text(document: Mapping[str, Any], key: str) -> str | None:
    """Return an optional string of the document."""
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{key} must be a string, got {value!r}", param=key)
    return value


def _binary_size(entry: Mapping[str, Any], where: str) -> int | None:
    size = read_parameters(entry, where).get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidRequest(
            f"{where}: binary_data_size must be a whole number >= 0, got {size!r}",
            param="binary_data_size",
        )
    if "data" in entry:
        raise InvalidRequest(f"{where}: give data or binary_data_size, not both", param="data")
    return size


class _PlainTensor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: list[int]
    datatype: Literal["FP32", "FP64"]
    data: list[float]


class _PlainRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_PlainTensor]
    id: str | None = None


_PLAIN_DECODER = msgspec.json.Decoder(_PlainRequest)


def read_plain(body: bytes | memoryview) -> InferRequest | None:
    """Read a request of JSON numbers without parameters or chosen outputs; None for any other.

    Reading and checking the commonest request value by value in Python costs as much as scoring a
    transaction; msgspec checks types while it parses. Whatever does not fit its shapes exactly,
    faulty requests included, is left to the general reader, which has every error message.
    """
    try:
        request = _PLAIN_DECODER.decode(body)
    except msgspec.DecodeError:
        return None
    tensors: dict[str, Array] = {}
    for entry in request.inputs:
        array = _plain_array(entry)
        if array is None:
            return None
        tensors[entry.name] = array
    if not tensors or len(tensors) != len(request.inputs):
        return None
    return InferRequest(request.id, tensors)


def _plain_array(entry: _PlainTensor) -> Array | None:
    """Return the tensor; None when its values, count or name need the general reader."""
    shape, data, dtype = entry.shape, entry.data, _PLAIN_DTYPES[entry.datatype]
    fits = len(shape) <= _MAX_PLAIN_AXES and min(shape, default=0) >= 0
    if not (fits and data and entry.name and math.prod(shape) == len(data)):
        return None
    limit = _PLAIN_LIMITS[dtype]
    if not (-limit <= min(data) and max(data) <= limit):
        return None
    return np.array(data, dtype).reshape(shape)
