"""Fitting of the curves of ``routing.quality.response``, from a pool and a model's labels.

Without labels a curve takes its slopes from the pool: prompts that are easy for the pool are easy
for any model. With labels the slopes become the model's own, as far as the labels support them.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from routing.quality.response import ResponseCurves
from routing.training.calibrate import base_rates

Doubles = NDArray[np.float64]

POOL_SLOPE: Final = 0.7
POOL_QUESTIONS: Final = 500.0
MEMORY_SLOPE: Final = 1.0
MEMORY_QUESTIONS: Final = 170.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One S-shaped curve a model.

    Attributes:
        ability: shape (m,), log-odds where the factors have their usual values.
        slopes: shape (f, m).
        level: shape (m,), mean of the curve over the questions the model answered.
    """

    ability: Doubles
    slopes: Doubles
    level: Doubles

    def estimate(self, factors: NDArray[np.floating]) -> Doubles:
        """Return deviations from the base rate, shape (n, m); ``factors`` less usual values."""
        return expit(factors @ self.slopes + self.ability) - self.level


def ability(rate: float, easiness: NDArray[np.floating]) -> float:
    """Return the ability with this mean success rate over prompts of this easiness (log-odds)."""
    if not len(easiness):
        return float(logit(rate))
    low, high = logit(rate) - easiness.max() - 1.0, logit(rate) - easiness.min() + 1.0
    root: Any = brentq(lambda where: expit(where + easiness).mean() - rate, low, high)
    return float(root)


def prior_slopes(n_factors: int, leading: Sequence[int]) -> tuple[Doubles, Doubles]:
    """Return the slopes that the pool gives any model, and their weight in questions.

    The log-odds of every model of MMLU-Pro rise by .6 to .8 with a unit of the factor of a
    prompt's easiness for the others, of the pool of nine by .5 to 1.3; a pool of several
    tables has several such factors, which agree in part.

    Args:
        n_factors: smooth ones, and as many remembered ones behind them.
        leading: ``Factors.leading``.

    Returns:
        shape (n_factors,), twice.
    """
    slopes, n_smooth = np.zeros(n_factors), n_factors // 2
    easy = np.array(leading, dtype=np.int64)
    slopes[easy] = POOL_SLOPE / max(len(leading), 1)
    slopes[n_smooth + easy] = MEMORY_SLOPE
    return slopes, np.repeat([POOL_QUESTIONS, MEMORY_QUESTIONS], n_smooth)


def fit_curves(factors: Doubles, score: Doubles, leading: Sequence[int]) -> tuple[Curve, Curve]:
    """Fit the pool's curves, which take only base rates from labels, and the models' own curves.

    A column of the memory without any of a model's questions is ignored in its curve.

    Args:
        factors: shape (n, f), less their usual values.
        score: shape (n, m), in [0, 1]; NaN where a model did not answer.
        leading: ``Factors.leading``.
    """
    pool_slopes, questions = prior_slopes(factors.shape[1], leading)
    pool: list[tuple[float, Doubles, float]] = []
    own: list[tuple[float, Doubles, float]] = []
    for rate, column in zip(base_rates(score), score.T, strict=True):
        answered = ~np.isnan(column)
        inputs, good = factors[answered], column[answered]
        # A constant column carries no information: it would count as a second ability.
        inputs = np.where((inputs != inputs[:1]).any(axis=0), inputs, 0.0)
        slopes = np.where(inputs.any(axis=0), pool_slopes, 0.0)
        start = ability(float(rate), inputs @ slopes)
        fitted = _penalised(inputs, good, start, slopes, questions * rate * (1.0 - rate))
        for curves, (where, slope) in ((pool, (start, slopes)), (own, fitted)):
            level = expit(inputs @ slope + where).mean() if len(inputs) else rate
            curves.append((where, slope, float(level)))
    return _curve(pool), _curve(own)


def _curve(models: Sequence[tuple[float, Doubles, float]]) -> Curve:
    where, slopes, level = zip(*models, strict=True)
    return Curve(np.array(where), np.stack(slopes, axis=1), np.array(level))


def response_curves(
    curves: Sequence[Curve], shares: NDArray[np.floating], usual: NDArray[np.floating]
) -> ResponseCurves:
    """Return curves for serving, for factors without ``usual`` subtracted from them."""
    return ResponseCurves(
        np.asarray(shares, dtype=np.float32),
        np.stack([curve.ability - usual @ curve.slopes for curve in curves]).astype(np.float32),
        np.concatenate([curve.slopes for curve in curves], axis=1).astype(np.float32),
    )


def _penalised(
    factors: Doubles, score: Doubles, start: float, slopes: Doubles, precision: Doubles
) -> tuple[float, Doubles]:
    """Fit a logistic regression whose slopes are shrunk to prior ones.

    Args:
        factors: shape (n, f).
        score: shape (n,), in [0, 1].
        start: ability to begin with.
        slopes: shape (f,), mean of the slopes' prior.
        precision: shape (f,), inverse variance of it.
    """
    inputs = np.column_stack((np.ones(len(factors)), factors))
    prior = np.concatenate(([start], slopes))
    ridge = np.concatenate(([1.0], precision))

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        odds, apart = inputs @ weights, weights - prior
        surprise = np.logaddexp(0.0, odds).sum() - score @ odds
        value = float(surprise + 0.5 * (ridge * apart) @ apart)
        return value, inputs.T @ (expit(odds) - score) + ridge * apart

    def curvature(weights: Doubles) -> Doubles:
        p = expit(inputs @ weights)
        return (inputs * (p * (1.0 - p))[:, None]).T @ inputs + np.diag(ridge)

    minimum: Any = minimize(loss, prior, jac=True, hess=curvature, method="trust-exact")
    return float(minimum.x[0]), minimum.x[1:]
