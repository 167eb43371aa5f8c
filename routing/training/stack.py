"""Stacking: weights of estimates, learned on questions they were not fitted on."""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

Doubles = NDArray[np.float64]
PRIOR_QUESTIONS: Final = 1_000.0


def stack(estimates: Sequence[NDArray[np.floating]], score: Doubles, prior: Doubles) -> Doubles:
    """Return the non-negative weights that best predict the gains between models.

    Estimates and outcomes are centred on each question's mean over its models, so the squared
    error is that of the gains between all pairs. Outcomes are noisy (one yes or no each), so the
    weights are drawn to ``prior`` as if ``PRIOR_QUESTIONS`` questions had confirmed it.

    Args:
        estimates: cross-fitted deviations from the base rate, each of shape (n, m).
        score: shape (n, m), recorded deviations from the base rate; NaN where not answered.
        prior: shape (len(estimates),).

    Returns:
        shape (len(estimates),), not negative; the sum is free.

    Source: Breiman, Stacked regressions, 1996 (non-negative weights, cross-validated estimates).
    """
    answered = ~np.isnan(score)
    per_question = answered.sum(axis=1, keepdims=True)
    compared = per_question.max(initial=0) > 1

    def gains(values: NDArray[np.floating]) -> Doubles:
        filled = np.where(answered, values, 0.0)
        if not compared:
            return filled[answered]
        mean = filled.sum(axis=1, keepdims=True) / np.maximum(per_question, 1)
        return (filled - mean)[answered]

    x, y = np.stack([gains(values) for values in estimates], axis=1), gains(score)
    pull = PRIOR_QUESTIONS * max(float((x * x).sum()) / max(x.size, 1), 1e-9) * score.shape[1]
    system = x.T @ x + pull * np.eye(len(prior))
    root = cholesky(system)
    return nnls(root, solve_triangular(root, x.T @ y + pull * prior, trans=1))[0]
