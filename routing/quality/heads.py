"""One head per model: a score in log-odds from the shared features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoded

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heads:
    """Linear heads over dense features and terms, all models in one product.

    Attributes:
        models: name of each head.
        weights: shape (d, m), on ``Encoded.dense``.
        bias: shape (m,), log-odds on an average prompt.
        term_weights: shape (terms, m), float16, on ``Encoded.term_values``; no rows when unused.
        base_rate: shape (m,), share of good answers among the training outcomes.
    """

    models: tuple[str, ...]
    weights: Floats
    bias: Floats
    term_weights: NDArray[np.float16]
    base_rate: Floats

    def rows(self) -> Mapping[str, int]:
        """Position of each model's head."""
        return {name: row for row, name in enumerate(self.models)}

    def scores(self, encoded: Encoded) -> Floats:
        """Log-odds of a good answer from every head.

        Returns:
            shape (m,), float32.
        """
        scores = encoded.dense @ self.weights + self.bias
        if len(self.term_weights) and len(encoded.term_ids):
            rows = self.term_weights[encoded.term_ids].astype(np.float32)
            scores = scores + encoded.term_values @ rows
        return scores
