"""Reliability of predicted probabilities: expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted and observed means in bins of equal size.

    Attributes:
        predicted: shape (bins,).
        observed: shape (bins,).
        count: shape (bins,).
        ece: mean absolute difference, weighted by count.
    """

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]
    ece: float


def reliability(p_good: Floats, score: Floats, *, bins: int = 10) -> Reliability:
    """Compute the expected calibration error over equal-mass bins.

    Source: Guo et al., ICML 2017; equal-mass bins after Nixon et al. 2019, because equal-width
    bins leave most of a router's narrow range of predictions in two of them.
    """
    order = np.argsort(p_good, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    predicted = np.array([p_good[group].mean() for group in groups])
    observed = np.array([score[group].mean() for group in groups])
    count = np.array([len(group) for group in groups], dtype=np.int64)
    ece = float((np.abs(predicted - observed) * count).sum() / count.sum())
    return Reliability(predicted, observed, count, ece)
