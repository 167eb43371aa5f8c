"""Writes a message's JSON and, after it, the tensors that go raw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from runners.open_inference.datatypes import datatype_of
from runners.open_inference.messages import HEADER_LENGTH
from runners.open_inference.tensors import to_binary, to_json

if TYPE_CHECKING:
    from turnout.types import Tensors

_JSON = {"Content-Type": "application/json"}


def write(
    document: dict[str, Any], key: str, tensors: Tensors, binary: frozenset[str]
) -> tuple[dict[str, str], bytes]:
    """Add ``tensors`` to ``document`` under ``key`` and write both.

    Returns:
        headers and body.
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
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return dict(_JSON), text
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return headers, b"".join([text, *raw])
