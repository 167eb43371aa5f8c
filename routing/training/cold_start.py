"""Fitting the difficulty of a prompt from all recorded outcomes together (Rasch's model)."""

# pyright: basic

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from routing.quality.cold_start import ColdStart
from routing.training.kernel import FACTOR_SCALE
from routing.training.response import ability

Floats = NDArray[np.float32]
MAX_OUTCOMES: Final = 60_000
RIDGE: Final = 0.02


def fit_cold_start(
    features: Floats,
    score: NDArray[np.float64],
    ability_of: list[int],
    n_factors: int,
    seed: int,
) -> ColdStart:
    """Fit one ability per model and one difficulty per prompt, linear in features and factors.

    Args:
        features: shape (n, d + n_factors).
        score: shape (n, m), NaN where a model did not answer; good from 0.5.
        ability_of: the ability each column shares: columns of one model under two names.
        n_factors: number of last columns that are factors; they are penalised less.
        seed: of the subsample of ``MAX_OUTCOMES`` outcomes.
    """
    rows, columns = np.nonzero(~np.isnan(score))
    if len(rows) > MAX_OUTCOMES:
        some = np.random.default_rng(seed).permutation(len(rows))[:MAX_OUTCOMES]
        rows, columns = rows[some], columns[some]
    owner = np.array(ability_of)[columns]
    n_abilities = max(ability_of) + 1
    dummies = sp.csr_matrix(
        (np.ones(len(rows)), (np.arange(len(rows)), owner)), shape=(len(rows), n_abilities)
    )
    good = score[rows, columns] >= 0.5
    if good.all() or not good.any():
        weights = np.zeros(features.shape[1], dtype=np.float32)
    else:
        rasch = LogisticRegression(C=RIDGE, max_iter=300)
        scale = np.ones(features.shape[1], dtype=np.float32)
        scale[len(scale) - n_factors :] = FACTOR_SCALE
        inputs = sp.csr_matrix(features[rows] * scale)
        rasch.fit(sp.hstack([dummies, inputs]).tocsr(), good)
        weights = (-rasch.coef_[0][n_abilities:] * scale).astype(np.float32)
    typical = features @ weights
    bias = -float(np.median(typical))
    priors = np.linspace(0.02, 0.98, 97)
    abilities = [ability(float(prior), -(typical + bias)) for prior in priors]
    return ColdStart(
        weights, bias, priors.astype(np.float32), np.array(abilities, dtype=np.float32)
    )
