"""One row, looked at in as few numpy calls as there can be: it is paid for every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from routing.quality.feature_quality import FeatureQuality, Floats

Look: TypeAlias = Callable[[Floats], list[float]]
_SOME = 0.5


def row_look(quality: FeatureQuality) -> Look:
    """``FeatureQuality.predict`` for one row, shape (d,), at a third of its price.

    The bounds of what is usual are asked along with the trees' questions, and their breaches are
    counted by one more column of weights. Rows that are not usual are predicted the long way.
    """
    trees, d = quality.trees, len(quality.centre)
    t, m = len(trees.feature) // 3, len(trees.bias)
    reach = quality.usual / quality.inverse_scale
    index = np.concatenate((trees.feature, np.arange(d), np.arange(d))).astype(np.intp)
    threshold = np.concatenate(
        (trees.threshold, quality.centre + reach, quality.centre - reach)
    ).astype(np.float32)
    weights = np.zeros((5 * t + 2 * d, m + 1), np.float32)
    weights[: 2 * t, :m] = trees.weights[: 2 * t]
    weights[3 * t + 2 * d :, :m] = trees.weights[2 * t :]
    weights[3 * t : 3 * t + d, m] = 1.0  # above the upper bound
    weights[3 * t + d : 3 * t + 2 * d, m] = -1.0  # above the lower one, as it should be
    bias = np.append(trees.bias, np.float32(d))

    def look(row: Floats) -> list[float]:
        yes = row.take(index) > threshold
        both = yes[t : 3 * t].reshape(2, t) & yes[:t]
        found = np.concatenate((yes, both.ravel())) @ weights + bias
        *p_good, unusual = found.tolist()
        if unusual > _SOME:
            return quality.predict(row[None])[0].tolist()
        return [min(max(p, 1e-4), 1.0 - 1e-4) for p in p_good]

    return look
