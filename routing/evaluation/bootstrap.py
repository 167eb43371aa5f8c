"""Confidence intervals by resampling questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import DataError

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval of 95 % of its resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[[Ints], float], n: int, *, rounds: int = 500, seed: int = 0
) -> Interval:
    """Compute a percentile bootstrap over question indices.

    Args:
        statistic: from resampled indices, shape (n,), to a number.
        n: number of questions.
        rounds: resamples; those in which the statistic is undefined are left out.
        seed: of the resampling.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    random = np.random.default_rng(seed)
    samples: list[float] = []
    for _ in range(rounds):
        try:
            samples.append(statistic(random.integers(0, n, n)))
        except DataError:
            continue
    value = statistic(np.arange(n))
    if not samples:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(value, float(low), float(high))
