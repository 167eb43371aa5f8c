"""Fitting of trees and n-grams, which the fuller tier adds to the kernel (``training/kernel.py``).

Targets are scores in [0, 1], not log-odds: so the difference of two models' estimates is itself
the regression of their gain.
"""

# pyright: basic

from __future__ import annotations

import warnings
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from routing.quality.forest import Forest
from routing.quality.heads import GramHeads
from routing.training.calibrate import mean_scores
from routing.training.kernel import blocks

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

GRAM_RIDGE: Final = 12.0
LEAST_PROMPTS: Final = 2
MAX_FACTORS: Final = 4
TREES: Final = 200


def inverse_frequency(counted: sp.csr_matrix) -> NDArray[np.float16]:
    """Return each n-gram's inverse document frequency, shape (buckets,); 0 for single ones."""
    met = np.bincount(counted.indices, minlength=counted.get_shape()[1])
    idf = np.log((1.0 + counted.get_shape()[0]) / (1.0 + met)) + 1.0
    return np.where(met < LEAST_PROMPTS, 0.0, idf).astype(np.float16)


def weighed(counted: sp.csr_matrix, idf: NDArray[np.float16]) -> sp.csr_matrix:
    """Return the tf-idf that ``GramHeads`` reads, rows of Euclidean length 1 (or 0)."""
    row = np.repeat(np.arange(counted.get_shape()[0]), np.diff(counted.indptr))
    values = counted.data * idf[counted.indices].astype(np.float32)
    length = np.sqrt(np.bincount(row, values * values, minlength=counted.get_shape()[0]))
    values /= np.maximum(length, 1e-9)[row]
    return sp.csr_matrix((values, counted.indices, counted.indptr), shape=counted.get_shape())


def fit_grams(tf_idf: sp.csr_matrix, idf: NDArray[np.float16], score: Doubles) -> GramHeads:
    """Fit a ridge regression on tf-idf for each model.

    Args:
        tf_idf: shape (n, buckets), from ``weighed`` with this ``idf``.
        idf: shape (buckets,).
        score: shape (n, m), NaN where a model did not answer.
    """
    bias = mean_scores(score)
    weights = np.zeros((tf_idf.get_shape()[1], score.shape[1]), dtype=np.float16)
    for rows, columns in blocks(score):
        if not len(rows):
            continue
        ridge = Ridge(alpha=GRAM_RIDGE, solver="lsqr", fit_intercept=False)
        ridge.fit(tf_idf[rows, :], score[np.ix_(rows, columns)] - bias[columns])
        weights[:, columns] = np.reshape(ridge.coef_, (len(columns), -1)).T
    return GramHeads(idf, weights, bias.astype(np.float32))


def fit_forest(features: Floats, score: Doubles, seed: int) -> Forest:
    """Fit boosted trees on the leading principal components of the score table.

    For two models nothing is lost; for many, four components carry what features can explain, and
    training costs as much as for four models.
    """
    bias = mean_scores(score)
    centred = np.nan_to_num(score - bias)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    factors = min(MAX_FACTORS, score.shape[1])
    loadings = right[:factors]
    trees: list[dict[str, Any]] = []
    factor: list[int] = []
    for column in range(factors):
        target = left[:, column] * scale[column]
        model = lgb.LGBMRegressor(
            n_estimators=TREES,
            learning_rate=0.03,
            num_leaves=12,
            max_depth=6,
            min_child_samples=max(10, min(50, len(features) // 30)),
            colsample_bytree=0.15,
            subsample=0.7,
            subsample_freq=1,
            reg_lambda=10.0,
            random_state=seed,
            n_jobs=1,
            verbose=-1,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(features, target)
        dumped = model.booster_.dump_model()["tree_info"]
        trees += [tree["tree_structure"] for tree in dumped]
        factor += [column] * len(dumped)
    return _flatten(trees, factor, loadings, bias)


def _flatten(
    trees: list[dict[str, Any]], factor: list[int], loadings: Doubles, bias: Doubles
) -> Forest:
    rows: list[tuple[int, float, int, int, float]] = []
    deepest = 0

    def add(node: dict[str, Any], depth: int) -> int:
        nonlocal deepest
        row = len(rows)
        if "split_feature" not in node:
            rows.append((0, np.inf, row, row, float(node["leaf_value"])))
            deepest = max(deepest, depth)
            return row
        rows.append((0, 0.0, 0, 0, 0.0))
        left, right = add(node["left_child"], depth + 1), add(node["right_child"], depth + 1)
        rows[row] = (int(node["split_feature"]), float(node["threshold"]), left, right, 0.0)
        return row

    roots = [add(tree, 0) for tree in trees]
    feature, threshold, left, right, value = map(np.array, zip(*rows, strict=True))
    return Forest(
        feature=feature.astype(np.int32),
        threshold=threshold.astype(np.float32),
        left=left.astype(np.int32),
        right=right.astype(np.int32),
        value=value.astype(np.float32),
        roots=np.array(roots, dtype=np.int32),
        factor=np.array(factor, dtype=np.int32),
        depth=deepest,
        loadings=loadings.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def estimate_forest(forest: Forest, features: Floats) -> Floats:
    """Return ``Forest.estimate`` of many prompts, shape (n, m)."""
    return np.stack([forest.estimate(row) for row in features])
