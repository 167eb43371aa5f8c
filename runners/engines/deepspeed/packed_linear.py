"""Linear layers with weights in oneDNN's own layout, for float32 on a CPU.

``torch.nn.functional.linear`` calls MKL there, which reads weights slowly for a few rows, as in
batched decoding. oneDNN with weights in its own layout takes half the time at 2 to 32 rows (all
layers of SmolLM2-135M, 8 rows: 47 against 94 ms). PyTorch's compiler does the same to frozen
weights, through the same two operators; they are not documented, so where they are missing the
layers stay as they are.

Imported by the deepspeed engine after torch is there.
"""

from __future__ import annotations

from typing import Any

import torch

_ROWS = 8
"""The number of rows that the layout is optimised for; any number works."""


class PackedLinear(torch.nn.Module):
    """``torch.nn.Linear`` for inference, without the original weights.

    Args:
        linear: float32, on the CPU.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self._weight: Any = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``rows @ weight.T + bias``, shape (..., outputs)."""
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")


def pack(model: torch.nn.Module) -> int:
    """Replace every plain float32 linear layer of a model on the CPU; return their number.

    A weight that something else holds too (an embedding that is also the head) stays beside its
    packed copy.
    """
    if not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return 0
    layers = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear and _fits(child.weight)
    ]
    for parent, name, child in layers:
        setattr(parent, name, PackedLinear(child))
    return len(layers)


def _fits(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
