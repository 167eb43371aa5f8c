"""Which runs of characters speak for or against a good answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoded

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GramHeads:
    """One sparse linear regression per model on the tf-idf of character n-grams.

    Attributes:
        idf: shape (buckets,), float16; 0 for a bucket met in fewer than two training prompts.
        weights: shape (buckets, m), float16.
        bias: shape (m,).
    """

    idf: NDArray[np.float16]
    weights: NDArray[np.float16]
    bias: Floats

    def estimate(self, encoded: Encoded) -> Floats:
        """P(good) of every model before calibration, shape (m,)."""
        values = encoded.gram_values * self.idf[encoded.gram_ids].astype(np.float32)
        length = float(values @ values) ** 0.5
        if length == 0.0:
            return self.bias
        return values @ self.weights[encoded.gram_ids].astype(np.float32) / length + self.bias
