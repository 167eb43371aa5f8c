"""Fitting the curves of ``routing.quality.response``: what a pool says of a model, and its labels.

Beside rates only, a curve takes its slopes from the pool: what is easy for the pool is easy for
any model. With labels the slopes become the model's own, as far as those labels confirm it.
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
        """Deviations from the base rate, shape (n, m); ``factors`` less their usual values."""
        return expit(factors @ self.slopes + self.ability) - self.level


def ability(rate: float, easiness: NDArray[np.floating]) -> float:
    """The ability whose mean success over prompts of this easiness (log-odds) is the rate."""
    if not len(easiness):
        return float(logit(rate))
    low, high = logit(rate) - easiness.max() - 1.0, logit(rate) - easiness.min() + 1.0
    found: Any = brentq(lambda where: expit(where + easiness).mean() - rate, low, high)
    return float(found)


def pools_slopes(n_factors: int, leading: Sequence[int]) -> tuple[Doubles, Doubles]:
    """Slopes that the pool gives any model, and how many questions they count for.

    The log-odds of every model of MMLU-Pro rise by .6 to .8 with a unit of the factor that says
    how easy a prompt is for the others, of the pool of nine by .5 to 1.3; a pool of several
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
    """The pool's word, which takes only base rates from the labels, and the models' own curves.

    A column of the memory that knows none of a model's questions counts for nothing in its curve.

    Args:
        factors: shape (n, f), less their usual values.
        score: shape (n, m), in [0, 1]; NaN where a model did not answer.
        leading: ``Factors.leading``.
    """
    given, questions = pools_slopes(factors.shape[1], leading)
    word: list[tuple[float, Doubles, float]] = []
    own: list[tuple[float, Doubles, float]] = []
    for rate, column in zip(base_rates(score), score.T, strict=True):
        answered = ~np.isnan(column)
        seen, good = factors[answered], column[answered]
        # What is constant here says nothing of this model: it would count as a second ability.
        seen = np.where((seen != seen[:1]).any(axis=0), seen, 0.0)
        slopes = np.where(seen.any(axis=0), given, 0.0)
        start = ability(float(rate), seen @ slopes)
        found = _penalised(seen, good, start, slopes, questions * rate * (1.0 - rate))
        for curves, (where, slope) in ((word, (start, slopes)), (own, found)):
            level = expit(seen @ slope + where).mean() if len(seen) else rate
            curves.append((where, slope, float(level)))
    return _curve(word), _curve(own)


def _curve(models: Sequence[tuple[float, Doubles, float]]) -> Curve:
    where, slopes, level = zip(*models, strict=True)
    return Curve(np.array(where), np.stack(slopes, axis=1), np.array(level))


def response_curves(
    curves: Sequence[Curve], shares: NDArray[np.floating], usual: NDArray[np.floating]
) -> ResponseCurves:
    """What serves, for factors as they come: ``usual`` is what was taken from them."""
    return ResponseCurves(
        np.asarray(shares, dtype=np.float32),
        np.stack([curve.ability - usual @ curve.slopes for curve in curves]).astype(np.float32),
        np.concatenate([curve.slopes for curve in curves], axis=1).astype(np.float32),
    )


def _penalised(
    factors: Doubles, score: Doubles, start: float, slopes: Doubles, precision: Doubles
) -> tuple[float, Doubles]:
    """Logistic regression whose slopes are drawn to given ones.

    Args:
        factors: shape (n, f).
        score: shape (n,), in [0, 1].
        start: ability to begin with.
        slopes: shape (f,), mean of the slopes' prior.
        precision: shape (f,), inverse variance of it.
    """
    seen = np.column_stack((np.ones(len(factors)), factors))
    prior = np.concatenate(([start], slopes))
    ridge = np.concatenate(([1.0], precision))

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        odds, apart = seen @ weights, weights - prior
        surprise = np.logaddexp(0.0, odds).sum() - score @ odds
        value = float(surprise + 0.5 * (ridge * apart) @ apart)
        return value, seen.T @ (expit(odds) - score) + ridge * apart

    def curvature(weights: Doubles) -> Doubles:
        p = expit(seen @ weights)
        return (seen * (p * (1.0 - p))[:, None]).T @ seen + np.diag(ridge)

    found: Any = minimize(loss, prior, jac=True, hess=curvature, method="trust-exact")
    return float(found.x[0]), found.x[1:]
