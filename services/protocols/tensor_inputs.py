"""Public input tensors: reading from JSON values, and checks against a signature."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.protocols.openai_schema import chat_body
from turnout.errors import InvalidRequest
from turnout.types import Generation, Signature, Task, Tensors, TensorSpec

_DATATYPES = {"<f4": "FP32", "<f8": "FP64", "<i8": "INT64", "<i4": "INT32", "|b1": "BOOL"}


def check(signature: Signature, tensors: Tensors) -> Tensors:
    """Check public inputs against a signature.

    Raises:
        InvalidRequest: a tensor is missing, unknown, empty, or of the wrong type or shape.
    """
    specs = signature.inputs
    if len(specs) == len(tensors) == 1 and _plainly_fits(specs[0], tensors.get(specs[0].name)):
        return tensors
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            names = ", ".join(tensors) or "none"
            raise InvalidRequest(f"input {spec.name!r} is missing; got {names}", param=spec.name)
        _check_tensor(spec, tensor)
    if len(tensors) != len(specs):
        names = {spec.name for spec in specs}
        unknown = ", ".join(name for name in tensors if name not in names)
        raise InvalidRequest(
            f"unknown input {unknown}; this task takes {', '.join(sorted(names))}", param=unknown
        )
    return tensors


def _plainly_fits(spec: TensorSpec, tensor: np.ndarray[Any, Any] | None) -> bool:
    """Return whether rows of a fixed width fit, at a third of the cost of ``_check_tensor``."""
    return (
        tensor is not None
        and _DATATYPES.get(tensor.dtype.str) == spec.datatype
        and tensor.ndim == len(spec.shape)
        and tensor.shape[1:] == spec.shape[1:]
        and spec.shape[0] == -1
        and tensor.shape[0] > 0
    )


def _check_tensor(spec: TensorSpec, tensor: np.ndarray[Any, Any]) -> None:
    kind = "BYTES" if tensor.dtype == object else _DATATYPES.get(tensor.dtype.str)
    if kind != spec.datatype:
        raise InvalidRequest(
            f"input {spec.name!r} must be {spec.datatype}, got {kind or tensor.dtype}",
            param=spec.name,
        )
    fits = tensor.ndim == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        shape = ", ".join("n" if size == -1 else str(size) for size in spec.shape)
        raise InvalidRequest(
            f"input {spec.name!r} must have shape [{shape}], got {list(tensor.shape)}",
            param=spec.name,
        )
    if len(tensor) == 0:
        raise InvalidRequest(f"input {spec.name!r} has no rows", param=spec.name)


def spec_json(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor as metadata shows it."""
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def read_inputs(task: Task, signature: Signature, inputs: dict[str, Any]) -> Tensors | Generation:
    """Read a route body's ``inputs`` as engines take them.

    Raises:
        InvalidRequest: they do not fit the task.
    """
    if task is Task.CHAT:
        return chat_body(inputs).generation()
    return check(signature, read_tensors(signature.inputs, inputs))


def read_tensors(specs: Sequence[TensorSpec], inputs: dict[str, Any]) -> Tensors:
    """Read JSON values as these tensors.

    Raises:
        InvalidRequest: a tensor is missing, or cannot be read.
    """
    unknown = [name for name in inputs if name not in {spec.name for spec in specs}]
    if unknown:
        names = ", ".join(spec.name for spec in specs)
        raise InvalidRequest(
            f"inputs.{unknown[0]} is unknown; there are {names}", param=f"inputs.{unknown[0]}"
        )
    try:
        return {spec.name: _tensor(spec, inputs[spec.name]) for spec in specs}
    except KeyError as error:
        raise InvalidRequest(f"inputs.{error.args[0]} is missing", param="inputs") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"inputs cannot be read: {error}", param="inputs") from error


def _tensor(spec: TensorSpec, value: Any) -> np.ndarray:
    if spec.datatype == "BYTES":
        read = _image if spec.name == "image" else _utf8
        rows = [value] if isinstance(value, str) else list(value)
        return np.array([read(row, spec.name) for row in rows], dtype=object)
    dtype = np.int64 if spec.datatype == "INT64" else np.float32
    tensor = np.array(value, ndmin=len(spec.shape))
    if dtype is np.int64 and tensor.dtype.kind not in "iu":
        raise InvalidRequest(f"inputs.{spec.name} must be whole numbers", param="inputs")
    return tensor.astype(dtype)


def _image(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"inputs.{name} must be base64 text", param=f"inputs.{name}")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(
            f"inputs.{name} is not base64: {error}", param=f"inputs.{name}"
        ) from error


def _utf8(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"inputs.{name} must be text", param=f"inputs.{name}")
    return value.encode()
