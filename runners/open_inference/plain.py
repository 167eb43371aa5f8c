"""The commonest request, read in one pass: JSON numbers, no parameters, no choice of outputs.

Reading and checking it value by value in Python costs as much as scoring a transaction. msgspec
checks types while it parses; whatever does not fit these shapes exactly, faulty requests included,
is left to the general reader, which knows every form and every message.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from runners.open_inference.messages import InferRequest
from runners.open_inference.tensors import Array

_DTYPES = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_MOST_AXES = 32
_LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in _DTYPES.values()}


class _Tensor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: list[int]
    datatype: Literal["FP32", "FP64"]
    data: list[float]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Tensor]
    id: str | None = None


_DECODER = msgspec.json.Decoder(_Plain)


def read(body: bytes | memoryview) -> InferRequest | None:
    """Read a plain request; None when it is anything else."""
    try:
        plain = _DECODER.decode(body)
    except msgspec.DecodeError:
        return None
    tensors: dict[str, Array] = {}
    for entry in plain.inputs:
        array = _array(entry)
        if array is None:
            return None
        tensors[entry.name] = array
    if not tensors or len(tensors) != len(plain.inputs):
        return None
    return InferRequest(plain.id, tensors)


def _array(entry: _Tensor) -> Array | None:
    """The tensor; None when its values, count or name want the general reader's word."""
    shape, data, dtype = entry.shape, entry.data, _DTYPES[entry.datatype]
    fits = len(shape) <= _MOST_AXES and min(shape, default=0) >= 0
    if not (fits and data and entry.name and math.prod(shape) == len(data)):
        return None
    limit = _LARGEST[dtype]
    if not (-limit <= min(data) and max(data) <= limit):
        return None
    return np.array(data, dtype).reshape(shape)
