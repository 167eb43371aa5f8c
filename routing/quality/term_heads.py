"""Which words and word pairs speak for or against a good answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoded

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TermHeads:
    """One sparse linear regression per model.

    Attributes:
        weights: shape (terms, m), float16.
        bias: shape (m,).
    """

    weights: NDArray[np.float16]
    bias: Floats

    def estimate(self, encoded: Encoded) -> Floats:
        """P(good) of every model before calibration, shape (m,)."""
        if not len(encoded.term_ids):
            return self.bias
        rows = self.weights[encoded.term_ids].astype(np.float32)
        return encoded.term_values @ rows + self.bias
