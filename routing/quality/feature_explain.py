"""Explanation of the prediction for a row of numbers: each feature's part of the gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.feature_quality import FeatureQuality


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """The parts of a prediction for a row.

    Attributes:
        p_good: by model.
        trust: weight of the row's own prediction against the base rates, in [0, 1].
        gain_of: the models whose difference in P(good) is explained: better, then worse, by base
            rate.
        gain: that difference.
        contributions: by feature, the loss of gain when the feature is set to its usual value;
            largest first, by absolute size.
    """

    p_good: dict[str, float]
    trust: float
    gain_of: tuple[str, str]
    gain: float
    contributions: dict[str, float]


def explain_row(quality: FeatureQuality, row: NDArray[np.float32]) -> RowExplanation:
    """Explain the prediction for one row, shape (d,)."""
    order: list[int] = quality.base_rate.argsort(kind="stable").tolist()
    worst, best = order[0], order[-1]
    usual = np.tile(row, (len(row) + 1, 1))
    np.fill_diagonal(usual[1:], quality.centre)
    p_good = quality.predict(usual)
    gains = p_good[:, best] - p_good[:, worst]
    parts = dict(zip(quality.names, (gains[0] - gains[1:]).tolist(), strict=True))
    trust = quality.trust(row[None])
    return RowExplanation(
        p_good=dict(zip(quality.models, p_good[0].tolist(), strict=True)),
        trust=1.0 if trust is None else float(trust[0]),
        gain_of=(quality.models[best], quality.models[worst]),
        gain=float(gains[0]),
        contributions=dict(sorted(parts.items(), key=lambda item: -abs(item[1]))),
    )
