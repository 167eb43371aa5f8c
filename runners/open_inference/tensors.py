"""One tensor between its wire forms (a JSON list, or raw bytes) and numpy.

Sources: Open Inference Protocol v2, "Tensor Data Types" and "Binary Tensor Data Extension".
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from itertools import chain
from struct import Struct
from typing import Any, TypeAlias

import numpy as np

from turnout.errors import InvalidRequest

Array: TypeAlias = np.ndarray[Any, Any]

_FIXED: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_BYTES = "BYTES"
_OBJECT = np.dtype(object)
_NAMES = {dtype: name for name, dtype in _FIXED.items()}
_LENGTH = Struct("<I")  # little-endian uint32 before each BYTES element
_LARGEST = 2**48


def _first_infinite(kind: str) -> float:
    """From here on a number rounds to infinity: half a step beyond the largest finite one."""
    largest = np.finfo(kind).max
    return (
        float(largest) + (float(largest) - float(np.nextafter(largest, largest.dtype.type(0)))) / 2
    )


_FIRST_INFINITE = {np.dtype(kind): _first_infinite(kind) for kind in ("<f2", "<f4", "<f8")}
_JSON_KINDS: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}


def read_shape(entry: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """The declared shape: a list of integers that are zero or more.

    Raises:
        InvalidRequest: it is absent or anything else.
    """
    shape = entry.get("shape")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise InvalidRequest(
            f"{where}: shape must be a list of whole numbers >= 0, got {shape!r}", param="shape"
        )
    if len(shape) > 32:  # numpy 2 holds 64 axes; nothing real has more than a handful
        raise InvalidRequest(f"{where}: {len(shape)} axes are too many", param="shape")
    if math.prod(size for size in shape if size) >= _LARGEST:  # numpy refuses it even when empty
        raise InvalidRequest(f"{where}: shape {shape} is too large", param="shape")
    return tuple(shape)


def from_binary(entry: Mapping[str, Any], data: memoryview, where: str) -> Array:
    """Read a tensor from its raw little-endian bytes, without a copy where they are aligned.

    Returns:
        an array of the declared shape and datatype; read-only when it shares ``data``.

    Raises:
        InvalidRequest: the bytes are not what datatype and shape ask for.
    """
    shape = read_shape(entry, where)
    dtype = dtype_of(entry.get("datatype"), where)
    count = math.prod(shape)
    if dtype.kind == "O":
        return _unpack(data, count, where).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise InvalidRequest(
            f"{where}: datatype {entry['datatype']} with shape {list(shape)} takes "
            f"{count * dtype.itemsize} bytes, got {len(data)}",
            param="shape",
        )
    if dtype.kind == "b" and (np.frombuffer(data, np.uint8) > 1).any():
        raise InvalidRequest(f"{where}: BOOL bytes must be 0 or 1", param="data")
    # Kernels read vectors and assume the dtype's alignment; a JSON header ends anywhere.
    return np.require(np.frombuffer(data, dtype), requirements="A").reshape(shape)


def from_json(entry: Mapping[str, Any], where: str) -> Array:
    """Read a tensor from its ``data`` list, flat (row-major) or nested as its shape.

    BYTES elements are strings, read as UTF-8, or as base64 where the entry's parameters say
    ``content_type: base64`` (MLServer's convention; JSON has no other way to carry an image).

    Raises:
        InvalidRequest: wrong type, count, nesting, or a value the datatype cannot hold.
    """
    shape = read_shape(entry, where)
    dtype = dtype_of(entry.get("datatype"), where)
    flat = _flatten(entry.get("data"), shape, where)
    kinds = set(map(type, flat))
    if not kinds <= _JSON_KINDS[dtype.kind]:
        wrong = ", ".join(sorted(kind.__name__ for kind in kinds - _JSON_KINDS[dtype.kind]))
        raise InvalidRequest(
            f"{where}: data of datatype {entry['datatype']} holds {wrong}", param="data"
        )
    if len(flat) != math.prod(shape):
        raise InvalidRequest(
            f"{where}: shape {list(shape)} asks for {math.prod(shape)} elements, data holds "
            f"{len(flat)}",
            param="shape",
        )
    if dtype.kind == "O":
        elements = np.empty(len(flat), dtype=object)
        elements[:] = _encoded(flat, entry, where)
        return elements.reshape(shape)
    return _numbers(flat, dtype, entry["datatype"], where).reshape(shape)


def to_json(array: Array, datatype: str) -> tuple[Any, dict[str, Any]]:
    """The ``data`` list of a tensor (flat, for orjson) and the parameters that go with it."""
    if datatype == _BYTES:
        elements = _as_bytes(array)
        try:
            return [element.decode() for element in elements], {}
        except UnicodeDecodeError:
            packed = [base64.b64encode(element).decode() for element in elements]
            return packed, {"content_type": "base64"}
    flat = np.ascontiguousarray(array).ravel()
    return (flat.astype(np.float32) if datatype == "FP16" else flat), {}


def to_binary(array: Array, datatype: str) -> bytes | memoryview:
    """The raw little-endian bytes of a tensor, without a copy where it lies in order."""
    if datatype == _BYTES:
        return _pack(array)
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return ordered.ravel().view(np.uint8).data


def _flatten(data: object, shape: tuple[int, ...], where: str) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidRequest(f"{where}: data must be a list", param="data")
    if not data or not isinstance(data[0], list):
        return data
    nested: list[Any] = data
    for axis in range(len(shape)):
        if len(nested) != math.prod(shape[: axis + 1]):
            raise InvalidRequest(
                f"{where}: nested data does not follow shape {list(shape)} at axis {axis}",
                param="data",
            )
        if axis == len(shape) - 1:
            return nested
        if set(map(type, nested)) - {list} or set(map(len, nested)) - {shape[axis + 1]}:
            raise InvalidRequest(
                f"{where}: nested data is ragged: not every item at axis {axis} has "
                f"{shape[axis + 1]} items, as shape {list(shape)} says",
                param="data",
            )
        nested = list(chain.from_iterable(nested))
    raise InvalidRequest(f"{where}: nested data for a scalar", param="data")


def _numbers(flat: list[Any], dtype: np.dtype[Any], datatype: str, where: str) -> Array:
    try:
        if dtype.kind == "f" and flat:
            # A comparison in Python is cheaper than np.errstate around the narrowing.
            limit = _FIRST_INFINITE[dtype]
            if not (-limit < min(flat) and max(flat) < limit):
                raise OverflowError
        return np.array(flat, dtype)
    except OverflowError as error:
        raise InvalidRequest(
            f"{where}: a value is outside what {datatype} can hold", param="data"
        ) from error


def _encoded(flat: list[str], entry: Mapping[str, Any], where: str) -> list[bytes]:
    parameters = entry.get("parameters")
    if not isinstance(parameters, dict) or parameters.get("content_type") != "base64":
        return [text.encode() for text in flat]
    try:
        return [base64.b64decode(text, validate=True) for text in flat]
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{where}: data is not valid base64: {error}", param="data") from error


def _unpack(view: memoryview, count: int, where: str) -> Array:
    """Read ``count`` length-prefixed elements that fill ``view`` exactly.

    Returns:
        shape (count,), object; each element is ``bytes``.

    Raises:
        InvalidRequest: an element runs past the end, or bytes are left over.
    """
    if count > len(view) // _LENGTH.size:
        raise InvalidRequest(
            f"{where}: the shape asks for {count} BYTES elements but {len(view)} bytes hold "
            f"at most {len(view) // _LENGTH.size}",
            param="shape",
        )
    elements = np.empty(count, dtype=object)
    position = 0
    for index in range(count):
        start = position + _LENGTH.size
        if start > len(view):
            raise InvalidRequest(
                f"{where}: element {index} of {count} has no length: the data ends at byte "
                f"{len(view)}",
                param="data",
            )
        (size,) = _LENGTH.unpack_from(view, position)
        position = start + size
        if position > len(view):
            raise InvalidRequest(
                f"{where}: element {index} says it has {size} bytes but {len(view) - start} are "
                "left",
                param="data",
            )
        elements[index] = bytes(view[start:position])
    if position != len(view):
        raise InvalidRequest(
            f"{where}: {len(view) - position} bytes are left over after {count} BYTES elements",
            param="shape",
        )
    return elements


def _pack(array: Array) -> bytes:
    """Write every element with its length before it; the inverse of ``_unpack``."""
    parts: list[bytes] = []
    for element in _as_bytes(array):
        parts.append(_LENGTH.pack(len(element)))
        parts.append(element)
    return b"".join(parts)


def _as_bytes(array: Array) -> list[bytes]:
    """Every element in row-major order as ``bytes``; ``str`` becomes UTF-8.

    Raises:
        InvalidRequest: an element is neither text nor bytes.
    """
    elements: list[bytes] = []
    for element in array.ravel().tolist():
        if isinstance(element, str):
            elements.append(element.encode())
        elif isinstance(element, bytes | bytearray | memoryview):
            elements.append(bytes(element))
        else:
            kind = type(element).__name__
            raise InvalidRequest(f"a BYTES tensor holds text or bytes, not {kind}")
    return elements


def dtype_of(datatype: object, where: str) -> np.dtype[Any]:
    """The numpy dtype of a protocol datatype; ``BYTES`` is ``object`` (elements are ``bytes``).

    Raises:
        InvalidRequest: the datatype is unknown, or BF16, which numpy cannot hold.
    """
    if datatype == _BYTES:
        return _OBJECT
    if datatype == "BF16":
        raise InvalidRequest(
            f"{where}: datatype BF16 is not supported; send FP16 or FP32", param="datatype"
        )
    dtype = _FIXED.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        accepted = ", ".join([*_FIXED, _BYTES])
        raise InvalidRequest(
            f"{where}: unknown datatype {datatype!r}; use one of {accepted}", param="datatype"
        )
    return dtype


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a numpy dtype; objects, ``S`` and ``U`` are ``BYTES``.

    Raises:
        InvalidRequest: the protocol has no such type (complex, dates).
    """
    if dtype.kind in "OSU":
        return _BYTES
    name = _NAMES.get(dtype) or _NAMES.get(dtype.newbyteorder("<"))
    if name is None:
        raise InvalidRequest(f"the Open Inference Protocol has no datatype for numpy {dtype}")
    return name
