"""Fitting the three estimates that a head averages.

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
from routing.quality.kernel import KernelHeads, Landmarks
from routing.quality.term_heads import TermHeads

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LANDMARKS: Final = 1_024
KERNELS: Final = ((1.0 / 81.0, 1.0), (0.3, 1.0))
NOISE: Final = 5.0
TERM_RIDGE: Final = 12.0
MAX_FACTORS: Final = 4
TREES: Final = 200


def choose_landmarks(dense: Floats, n_form: int, seed: int, count: int = LANDMARKS) -> Landmarks:
    """Landmarks at random among the training prompts.

    The widths are multiples of what each part contributes: about one unit of squared distance
    for each standardised feature, ``MEANING_NORM`` squared (81) for meaning.
    """
    rows = np.random.default_rng(seed).permutation(len(dense))[:count]
    half = dense[rows].astype(np.float16).astype(np.float32)
    return Landmarks.at(
        form=half[:, :n_form].copy(),
        meaning=half[:, n_form:].copy(),
        emphasis=[emphasis for emphasis, _ in KERNELS],
        width=[factor * (n_form + 81.0 * emphasis) for emphasis, factor in KERNELS],
    )


def likeness(landmarks: Landmarks, dense: Floats) -> Floats:
    """``Landmarks.likeness`` of many prompts, shape (n, kernels * k)."""
    split = landmarks.form.shape[1]
    form = _distances(dense[:, :split], landmarks.form)
    meaning = _distances(dense[:, split:], landmarks.meaning)
    parts = [
        np.exp((form + emphasis * meaning) * (-1.0 / width))
        for emphasis, width in zip(landmarks.emphasis, landmarks.width, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _distances(a: Floats, b: Floats) -> Floats:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None]
    return np.maximum(squares - 2.0 * a @ b.T, 0.0)


def fit_kernel(landmarks: Landmarks, like: Floats, score: Doubles) -> KernelHeads:
    """Kernel ridge for each model and kernel; the kernels are averaged.

    Args:
        landmarks: shared by all models.
        like: shape (n, kernels * k), from ``likeness``.
        score: shape (n, m), NaN where a model did not answer.
    """
    k, m = len(landmarks.form), score.shape[1]
    own = np.concatenate((landmarks.form, landmarks.meaning), axis=1)
    between = likeness(landmarks, own).astype(np.float64)
    weights = np.zeros((like.shape[1], m))
    bias = np.nanmean(score, axis=0)
    count = len(landmarks.width)
    for rows, columns in _blocks(score):
        target = score[np.ix_(rows, columns)] - bias[columns]
        for part in (slice(i * k, (i + 1) * k) for i in range(count)):
            seen = like[rows, part].astype(np.float64)
            ridge = NOISE * between[:, part] + 1e-3 * np.eye(k)
            solved = np.linalg.solve(seen.T @ seen + ridge, seen.T @ target)
            weights[part, columns] = solved / count
    return KernelHeads(landmarks, weights.astype(np.float32), bias.astype(np.float32))


def _blocks(score: Doubles) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Models that answered the same questions, with those questions: one solve for each block."""
    blocks: dict[bytes, list[int]] = {}
    answered = ~np.isnan(score)
    for column in range(score.shape[1]):
        blocks.setdefault(answered[:, column].tobytes(), []).append(column)
    return [(np.flatnonzero(answered[:, c[0]]), np.array(c)) for c in blocks.values()]


def fit_terms(terms: sp.csr_matrix, score: Doubles) -> TermHeads:
    """Ridge on tf-idf for each model."""
    bias = np.nanmean(score, axis=0)
    weights = np.zeros((terms.get_shape()[1], score.shape[1]), dtype=np.float16)
    for rows, columns in _blocks(score):
        ridge = Ridge(alpha=TERM_RIDGE, solver="lsqr", fit_intercept=False)
        ridge.fit(terms[rows, :], score[np.ix_(rows, columns)] - bias[columns])
        weights[:, columns] = np.reshape(ridge.coef_, (len(columns), -1)).T
    return TermHeads(weights, bias.astype(np.float32))


def fit_forest(dense: Floats, score: Doubles, seed: int) -> Forest:
    """Boosted trees on the leading principal components of the score table.

    For two models nothing is lost; for many, four components carry what features can tell, and
    training costs as much as for four models.
    """
    bias = np.nanmean(score, axis=0)
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
            min_child_samples=max(10, min(50, len(dense) // 30)),
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
            model.fit(dense, target)
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


def estimate_forest(forest: Forest, dense: Floats) -> Floats:
    """``Forest.estimate`` of many prompts, shape (n, m)."""
    return np.stack([forest.estimate(row) for row in dense])
