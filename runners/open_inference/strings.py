"""BYTES tensors on the wire: each element is its length (little-endian uint32), then its bytes."""

from __future__ import annotations

from struct import Struct
from typing import Any

import numpy as np

from turnout.errors import InvalidRequest

_LENGTH = Struct("<I")


def unpack(view: memoryview, count: int, where: str) -> np.ndarray[Any, Any]:
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


def pack(array: np.ndarray[Any, Any]) -> bytes:
    """Write every element with its length before it; the inverse of ``unpack``."""
    parts: list[bytes] = []
    for element in as_bytes(array):
        parts.append(_LENGTH.pack(len(element)))
        parts.append(element)
    return b"".join(parts)


def as_bytes(array: np.ndarray[Any, Any]) -> list[bytes]:
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
