"""Boosted regression trees, evaluated for all trees at once with numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees that predict a few factors, from which every model's estimate follows.

    All trees lie in flat arrays; a leaf points to itself, so every tree can take the same number
    of steps.

    Attributes:
        feature: shape (nodes,), the feature a node looks at: dense ones, then factors.
        threshold: shape (nodes,); values up to it go left.
        left: shape (nodes,), row of the left child.
        right: shape (nodes,), row of the right child.
        value: shape (nodes,), of leaves.
        roots: shape (trees,), row of each tree's root.
        factor: shape (trees,), which factor a tree adds to.
        depth: most steps from a root to a leaf.
        loadings: shape (factors, m), from factors to models.
        bias: shape (m,).
    """

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats
    roots: Ints
    factor: Ints
    depth: int
    loadings: Floats
    bias: Floats

    def estimate(self, features: Floats) -> Floats:
        """Return P(good) of every model before calibration, shape (m,)."""
        node = self.roots
        for _ in range(self.depth):
            goes_left = features[self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        sums = np.bincount(self.factor, self.value[node], minlength=len(self.loadings))
        return sums.astype(np.float32) @ self.loadings + self.bias
