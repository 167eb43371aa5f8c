"""Read the inputs that an ONNX Runtime session declares and explain failed runs by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.engines.shape_check import DeclaredInput, misfits

if TYPE_CHECKING:
    from turnout.types import Tensors

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


def declared_inputs(session: Any) -> list[DeclaredInput]:
    """Return the inputs of a session."""
    return [
        DeclaredInput(
            str(entry.name),
            _DTYPES.get(entry.type) or entry.type.removeprefix("tensor(").removesuffix(")"),
            tuple(size if isinstance(size, int) else None for size in entry.shape),
        )
        for entry in session.get_inputs()
    ]


def explain(session: Any, tensors: Tensors, error: Exception) -> str:
    """Return the faults of a failed run's inputs; the engine's message when the inputs fit."""
    return "; ".join(misfits(declared_inputs(session), tensors)) or f"onnxruntime: {error}"
