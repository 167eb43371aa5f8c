"""A cache of keys and values of a transformers model, one row per slot, written in place.

Imported by the deepspeed engine after torch is there.
"""

from __future__ import annotations

import math

import torch

from runners.engines.pages import lazy_zeros


class SlotCache:
    """A cache for a transformers model, which calls ``update`` at each layer.

    Rows hold a sequence from position 0 and are filled to different lengths; a mask hides what
    lies beyond each row's own length. A layer's buffers are allocated at its first write:
    only then is the number of this rank's heads known.

    Args:
        slots: rows.
        positions: of a row.
    """

    is_compileable = False  # read by transformers

    def __init__(self, slots: int, positions: int) -> None:
        self._shape = (slots, positions)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._rows = slice(0, 0)
        self._positions = torch.empty((0, 0), dtype=torch.long)
        self._longest = 0

    def aim(self, rows: slice, positions: torch.Tensor, longest: int) -> None:
        """Set the rows and positions that the next forward pass writes.

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
        if layer not in self._layers:
            self._layers[layer] = (self._buffer(keys), self._buffer(values))
        held_keys, held_values = (buffer[self._rows] for buffer in self._layers[layer])
        if self._positions.shape[0] == 1:
            start = self._longest - self._positions.shape[1]
            held_keys[:, :, start : self._longest] = keys
            held_values[:, :, start : self._longest] = values
        else:
            rows = torch.arange(self._positions.shape[0], device=keys.device)
            held_keys[rows, :, self._positions[:, 0]] = keys[:, :, 0]
            held_values[rows, :, self._positions[:, 0]] = values[:, :, 0]
        return held_keys[:, :, : self._longest], held_values[:, :, : self._longest]

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Return an additive causal mask, shape (batch, 1, tokens, longest)."""
        places = torch.arange(self._longest, device=self._positions.device)
        visible = places <= self._positions[:, None, :, None]
        blank = torch.zeros((), dtype=dtype, device=self._positions.device)
        return torch.where(visible, blank, torch.finfo(dtype).min)

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of a slot over another."""
        for buffers in self._layers.values():
            for buffer in buffers:
                buffer[target, :, :length] = buffer[source, :, :length]

    def _buffer(self, like: torch.Tensor) -> torch.Tensor:
        """Allocate a zero buffer: masked values must be finite, because 0 x NaN is NaN."""
        slots, positions = self._shape
        shape = (slots, like.shape[1], positions, like.shape[3])
        if like.device.type != "cpu":
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        raw = lazy_zeros((math.prod(shape) * like.dtype.itemsize,), "u1")
        return torch.from_numpy(raw).view(like.dtype).view(shape)
