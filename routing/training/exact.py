"""Kernel regression on every training prompt, for the fuller tier.

Landmarks are an approximation that the real-time tier needs; regression on all training prompts
ranks better where there are thousands (docs/router-trials.md) and costs the fuller tier well under
a millisecond. One Cholesky factorisation in single precision serves every model that answered the
same questions.
"""

# pyright: basic

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from routing.quality.encoder import Encoder
from routing.quality.kernel import KernelHeads
from routing.training.calibrate import mean_scores
from routing.training.kernel import FACTOR_SCALE, between, blocks, choose_landmarks

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
MOST: Final = 6_000
KERNEL: Final = ((0.2, 0.7),)
NOISE: Final = 4.0


def fit_exact(
    dense: Floats, factors: Floats, encoder: Encoder, score: Doubles, seed: int
) -> KernelHeads:
    """Fit a kernel ridge regression of every model's scores on up to ``MOST`` prompts.

    Of the factors only the remembered ones take part, as linear features: the smooth ones enter
    by the landmark kernel and cost rank here (docs/router-trials.md).

    Args:
        dense: shape (n, d).
        factors: shape (n, f); f may be 0.
        encoder: separates dense features of form from those of meaning, and smooth factors from
            remembered ones.
        score: shape (n, m), NaN where a model did not answer.
        seed: of the prompts taken when there are more than ``MOST``.
    """
    chosen = np.random.default_rng(seed).permutation(len(dense))[:MOST]
    marks = choose_landmarks(dense, encoder, seed, count=MOST, kernels=KERNEL)
    usual = factors.mean(axis=0)
    memory, targets = FACTOR_SCALE * (factors[chosen] - usual), score[chosen]
    memory[:, : encoder.n_smooth] = 0.0
    base = mean_scores(score)
    own, weights = between(marks) + memory @ memory.T, np.zeros(targets.shape, dtype=np.float32)
    for rows, columns in blocks(targets):
        if not len(rows):
            continue
        system = own[np.ix_(rows, rows)]
        system[np.diag_indices(len(rows))] += NOISE
        target = (targets[np.ix_(rows, columns)] - base[columns]).astype(np.float32)
        factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        weights[np.ix_(rows, columns)] = cho_solve(factor, target, check_finite=False)
    linear = FACTOR_SCALE * memory.T @ weights
    return KernelHeads(marks, weights, linear, (base - usual @ linear).astype(np.float32))
