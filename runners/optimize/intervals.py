"""Confidence intervals of the numbers that a gate decides on. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the two ends of its confidence interval."""

    value: float
    low: float
    high: float


def wilson(hits: float, count: int, confidence: float) -> Interval:
    """Return a share with its score interval.

    Args:
        hits: may be a fraction, where rows of one group count together.
        count: of independent trials.
        confidence: two-sided.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (JASA
    1927).
    """
    if count <= 0:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z
        / (1 + z * z / count)
        * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    )
    return Interval(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def paired_loss(only_first: float, only_second: float, count: int, confidence: float) -> Interval:
    """Return how much less often the second is right than the first, over the same trials.

    Args:
        only_first: trials that only the first got right.
        only_second: trials that only the second got right.
        count: of all trials.
        confidence: two-sided.

    Source: Agresti & Min, Simple improved confidence intervals for comparing matched proportions
    (Statistics in Medicine 2005): Wald's interval with half a trial added to each cell.
    """
    if count <= 0:
        return Interval(math.nan, -1.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    smoothed_count = count + 2
    b, c = only_first + 0.5, only_second + 0.5
    middle = (b - c) / smoothed_count
    half = z * math.sqrt(max(b + c - (b - c) ** 2 / smoothed_count, 0.0)) / smoothed_count
    loss = (only_first - only_second) / count
    return Interval(loss, min(max(middle - half, -1.0), loss), max(min(middle + half, 1.0), loss))


def bootstrap(
    statistic: Callable[[np.ndarray[Any, Any]], float],
    count: int,
    confidence: float,
    resamples: int = _RESAMPLES,
) -> Interval:
    """Return a statistic of rows with its percentile interval; the seed is fixed.

    Args:
        statistic: of the rows at these indices, int64 [count].
        count: of rows.
        confidence: two-sided.
        resamples: how often rows are drawn again.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    random = np.random.default_rng(0)
    values = [statistic(random.integers(0, count, count)) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(statistic(np.arange(count)), float(low), float(high))
