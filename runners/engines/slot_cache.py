"""Keys and values of a transformers model, one row a slot, written in place.

Imported by the deepspeed engine after torch is there.
"""

from __future__ import annotations

import math

import numpy as np
import torch


class SlotCache:
    """What a transformers model needs of a cache: ``update`` at each layer.

    Rows hold a sequence from position 0 and are filled to different lengths; a mask hides what
    lies beyond each row's own length.

    Args:
        layers: of the model.
        shape: (slots, key-value heads, positions, head size).
        dtype: of keys and values.
        device: where they lie.
    """

    is_compileable = False  # read by transformers

    def __init__(
        self,
        layers: int,
        shape: tuple[int, int, int, int],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._keys = [_zeros(shape, dtype, device) for _ in range(layers)]
        self._values = [_zeros(shape, dtype, device) for _ in range(layers)]
        self._dtype = dtype
        self._rows = slice(0, 0)
        self._positions = torch.empty((0, 0), dtype=torch.long, device=device)
        self._longest = 0

    def aim(self, rows: slice, positions: torch.Tensor, longest: int) -> None:
        """Say where the next forward pass writes.

        Args:
            rows: the slots, one a row of the batch.
            positions: shape (batch, tokens), where each new token goes.
            longest: positions any row holds after it.
        """
        self._rows, self._positions, self._longest = rows, positions, longest

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values and return all that the pass may look at.

        Args:
            keys: shape (batch, heads, tokens, head size).
            values: the same.
            layer: index of the layer.
        """
        held = (self._keys[layer][self._rows], self._values[layer][self._rows])
        if self._positions.shape[0] == 1:
            start = self._longest - self._positions.shape[1]
            held[0][:, :, start : self._longest] = keys
            held[1][:, :, start : self._longest] = values
        else:
            rows = torch.arange(self._positions.shape[0], device=keys.device)
            held[0][rows, :, self._positions[:, 0]] = keys[:, :, 0]
            held[1][rows, :, self._positions[:, 0]] = values[:, :, 0]
        return held[0][:, :, : self._longest], held[1][:, :, : self._longest]

    def mask(self, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """An additive mask, shape (batch, 1, tokens, longest): each token sees up to itself."""
        seen = torch.arange(longest, device=positions.device) <= positions[:, None, :, None]
        blank = torch.zeros((), dtype=self._dtype, device=positions.device)
        return torch.where(seen, blank, torch.finfo(self._dtype).min)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of a slot over another."""
        for tensors in (self._keys, self._values):
            for tensor in tensors:
                tensor[target, :, :length] = tensor[source, :, :length]


def _zeros(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Zeros: what a mask hides must still be finite, for 0 x NaN is NaN.

    On a CPU they come from ``calloc``, so memory is only taken as positions are written.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    raw = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)
