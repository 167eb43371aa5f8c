"""The interface of a text engine: forward passes over a cache with one slot a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from runners.generation.kv_cache_rows import Rows
from runners.generation.tokenizer import Tokenizer
from runners.protocol import ActiveEngine


class Decoder(Protocol):
    """A loaded model with a cache of ``slots`` rows, each as long as the context."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def context_tokens(self) -> int:
        """Positions in a slot."""
        ...

    @property
    def active(self) -> ActiveEngine:
        """What really runs."""
        ...

    @property
    def rows(self) -> Rows:
        """The rows of the cache, which move as sequences do."""
        ...

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        """Read ``tokens`` at positions ``start`` and on into a slot.

        Returns:
            logits after each of the ``last`` tokens, shape (last, vocabulary), float32.
        """
        ...

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """Read one token into each of the slots 0 to n - 1, at the positions ``lengths``.

        Returns:
            logits after them, shape (n, vocabulary), float32.
        """
        ...

    def close(self) -> None:
        """Free what is not freed with the object itself. Safe to call twice."""
        ...
