"""Fitting of the heads' calibration, on questions they were not fitted on."""

# pyright: basic

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from routing.quality.heads import Calibration

Doubles = NDArray[np.float64]
LOG_SLOPE: Final = 0.6
LOG_SLOPE_SPREAD: Final = 0.5
SHIFT_RIDGE: Final = 20.0
PSEUDO_OUTCOMES: Final = 4.0


def base_rates(score: Doubles) -> Doubles:
    """Return each model's share of good answers, as if two more had been good and two bad.

    Args:
        score: shape (n, m), in [0, 1], NaN where a model did not answer.

    Source: Agresti & Coull, The American Statistician 1998.
    """
    answered = (~np.isnan(score)).sum(axis=0)
    return (np.nansum(score, axis=0) + PSEUDO_OUTCOMES / 2.0) / (answered + PSEUDO_OUTCOMES)


def mean_scores(score: Doubles) -> Doubles:
    """Return each model's mean score over its answers, shape (m,); 0 for one without answers."""
    answered = (~np.isnan(score)).sum(axis=0)
    return np.nansum(score, axis=0) / np.maximum(answered, 1)


def calibrate(estimate: NDArray[np.floating], score: Doubles) -> Calibration:
    """Fit Platt scaling of cross-fitted estimates around each model's base rate.

    All models share the slope, so that calibration does not reorder their gains (a slope each
    cost half a point of APGR on MMLU); the shift is each model's own. The logarithm of the slope
    is drawn to ``LOG_SLOPE``, the shift to the base rate: a stack trained on gains underrates
    what all models have in common, so the slope that held on unseen questions was nearer
    2 than 1 on most tables (docs/router-trials.md).

    Args:
        estimate: shape (n, m), of questions the estimate was not fitted on.
        score: shape (n, m), in [0, 1], NaN where a model did not answer.
    """
    answered = ~np.isnan(score)
    y, rates = np.nan_to_num(score), base_rates(score)
    centre = np.log(rates / (1.0 - rates))
    p = np.clip(np.nan_to_num(estimate, nan=0.5), 0.01, 0.99)
    deviation = np.log(p / (1.0 - p)) - centre

    def shifted(slope: float) -> tuple[Doubles, Doubles]:
        """Return the best shift for this slope, and the log-odds it gives."""
        shift = np.zeros(score.shape[1])
        for _ in range(10):
            odds = centre + slope * deviation + shift
            q = 1.0 / (1.0 + np.exp(-odds))
            residual = np.where(answered, q - y, 0.0).sum(axis=0)
            curvature = np.where(answered, q * (1.0 - q), 0.0).sum(axis=0)
            shift -= (residual + SHIFT_RIDGE * shift) / (curvature + SHIFT_RIDGE)
        return shift, centre + slope * deviation + shift

    def loss(log_slope: float) -> float:
        shift, odds = shifted(math.exp(log_slope))
        surprise = np.where(answered, np.logaddexp(0.0, odds) - y * odds, 0.0).sum()
        apart = (log_slope - LOG_SLOPE) / LOG_SLOPE_SPREAD
        return float(surprise + 0.5 * SHIFT_RIDGE * (shift @ shift) + 0.5 * apart**2)

    minimum: Any = minimize_scalar(loss, bounds=(-2.0, 2.5), method="bounded")
    slope = math.exp(float(minimum.x))
    shift = shifted(slope)[0] + (1.0 - slope) * centre
    return Calibration(np.full(score.shape[1], slope, dtype=np.float32), shift.astype(np.float32))
