"""Boosted trees of two levels, evaluated for all trees at once in a few numpy calls.

A tree of two levels tests a root condition r, then one of two others, l or c. With yes as 1, its
value is linear in r, l, r l and r c:

    v = a + (b - a) l + (c' - a) r - (b - a) r l + (d - c') r c

for leaves a, b (root no) and c', d (root yes). So all trees together are one comparison and one
product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class BoostedPairs:
    """Estimates of every model from a row of numbers.

    Attributes:
        feature: shape (3 t,), int: features tested by roots, then lefts, then rights.
        threshold: shape (3 t,); the answer is yes above it.
        weights: shape (4 t, m), of r, l, r l, r c.
        bias: shape (m,).
    """

    feature: NDArray[np.int32]
    threshold: Floats
    weights: Floats
    bias: Floats

    def estimate(self, rows: Floats) -> Floats:
        """Return P(good) of every model before calibration: from shape (n, d) to (n, m)."""
        if len(rows) > _BLOCK:
            blocks = [self.estimate(rows[i : i + _BLOCK]) for i in range(0, len(rows), _BLOCK)]
            return np.concatenate(blocks)
        if not len(self.feature):
            return np.broadcast_to(self.bias, (len(rows), len(self.bias)))
        yes = rows[:, self.feature] > self.threshold
        t = len(self.feature) // 3
        root = yes[:, :t]
        below = yes[:, t:].reshape(len(rows), 2, t) & root[:, None, :]
        terms = np.concatenate((yes[:, : 2 * t], below.reshape(len(rows), 2 * t)), axis=1)
        return terms @ self.weights + self.bias
