"""The protocol's datatypes and their numpy counterparts.

Source: Open Inference Protocol v2, "Tensor Data Types".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from turnout.errors import InvalidRequest

FIXED: dict[str, np.dtype[Any]] = {
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
BYTES = "BYTES"
_OBJECT = np.dtype(object)
_NAMES = {dtype: name for name, dtype in FIXED.items()}


def dtype_of(datatype: object, where: str) -> np.dtype[Any]:
    """The numpy dtype of a protocol datatype; ``BYTES`` is ``object`` (elements are ``bytes``).

    Raises:
        InvalidRequest: the datatype is unknown, or BF16, which numpy cannot hold.
    """
    if datatype == BYTES:
        return _OBJECT
    if datatype == "BF16":
        raise InvalidRequest(
            f"{where}: datatype BF16 is not supported; send FP16 or FP32", param="datatype"
        )
    found = FIXED.get(datatype) if isinstance(datatype, str) else None
    if found is None:
        known = ", ".join([*FIXED, BYTES])
        raise InvalidRequest(
            f"{where}: unknown datatype {datatype!r}; use one of {known}", param="datatype"
        )
    return found


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a numpy dtype; objects, ``S`` and ``U`` are ``BYTES``.

    Raises:
        InvalidRequest: the protocol has no such type (complex, dates).
    """
    if dtype.kind in "OSU":
        return BYTES
    name = _NAMES.get(dtype) or _NAMES.get(dtype.newbyteorder("<"))
    if name is None:
        raise InvalidRequest(f"the Open Inference Protocol has no datatype for numpy {dtype}")
    return name
