"""Training of heads for rows of numbers: from recorded outcomes to a ``FeatureQuality``.

Scores are turned into a level (their mean over the models) and gains (the rest), and trees are
fitted to each. So the difference between models is regressed itself, not as the difference of two
regressions.
"""

# pyright: basic

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from routing.quality.boosted_pairs import BoostedPairs
from routing.quality.feature_quality import FeatureQuality
from routing.training.outcomes import Outcomes
from turnout.errors import TooFewOutcomes

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Progress = Callable[[str], None]
_Part = tuple[list[dict[str, Any]], Doubles]

LEAST_QUESTIONS: Final = 20
FOLDS: Final = 4
TREES: Final = 120
MAX_GAINS: Final = 3
_UNUSUAL: Final = 0.001
_FAR: Final = 0.99
_MOST: Final = 3.0
_MOSTLY: Final = 0.5


def train_features(
    outcomes: Outcomes,
    *,
    seed: int = 0,
    origin: str = "",
    progress: Progress = lambda _: None,
) -> FeatureQuality:
    """Fit one head per model, and the range of rows where they are trusted.

    Args:
        outcomes: with features; at least ``LEAST_QUESTIONS`` questions.
        seed: of folds and trees.
        origin: kept in the artifact.
        progress: called with each step.

    Raises:
        TooFewOutcomes: fewer questions than ``LEAST_QUESTIONS``.
    """
    if len(outcomes) < LEAST_QUESTIONS:
        raise TooFewOutcomes(
            f"{len(outcomes)} rows are too few to train on (at least {LEAST_QUESTIONS}); "
            "until there are more, give the models a prior in the catalog"
        )
    x, score = outcomes.features.astype(np.float32), outcomes.score
    base = np.nanmean(score, axis=0)
    parts = [
        part
        for step, (target, loadings) in enumerate(_targets(score - base))
        if (
            part := _fit(
                x, target, loadings, seed, lambda s, n=step: progress(f"part {n + 1}: {s}")
            )
        )
    ]
    trees = _stack_trees(parts, base)
    centre, inverse_scale, usual = _usual_row(x)
    draft = FeatureQuality(
        models=outcomes.models,
        names=outcomes.feature_names,
        base_rate=base.astype(np.float32),
        trees=trees,
        centre=centre,
        inverse_scale=inverse_scale,
        usual=usual,
        least=np.zeros((0, 0), np.float32),
        most=np.zeros((0, 0), np.float32),
        origin=origin,
        after=_gains(outcomes, x, seed, progress),
    )
    least, most = _ratios(draft.predict(x))
    return replace(draft, least=least, most=most)


def _targets(deviation: Doubles) -> list[tuple[Doubles, Doubles]]:
    """Return the regression targets, shape (n,), each with its loadings on models, shape (m,).

    Where all models answered most questions, these alone: the level, then the leading principal
    components of the gains. Elsewhere each model by itself.
    """
    models = deviation.shape[1]
    complete = ~np.isnan(deviation).any(axis=1)
    if complete.mean() < _MOSTLY:
        return list(zip(deviation.T, np.eye(models), strict=True))
    level = deviation.mean(axis=1)
    _, _, right = np.linalg.svd((deviation - level[:, None])[complete], full_matrices=False)
    gains = right[: min(models - 1, MAX_GAINS)]
    return [(level, np.ones(models))] + [(deviation @ gain, gain) for gain in gains]


def _gains(outcomes: Outcomes, x: Floats, seed: int, progress: Progress) -> dict[str, BoostedPairs]:
    """Fit the gains over each model with recorded confidence, given row and confidence.

    NaN for models that hardly ever answered the same rows, or whose gain cannot be predicted: there
    a cascade escalates by confidence, as without a router.
    """
    gains_over: dict[str, BoostedPairs] = {}
    if not len(outcomes.confidence):
        return gains_over
    for column, first in enumerate(outcomes.models):
        confidence = outcomes.confidence[:, column]
        gains = np.where(
            np.isnan(confidence)[:, None], np.nan, outcomes.score - outcomes.score[:, [column]]
        )
        counts = np.count_nonzero(~np.isnan(gains), axis=0)
        others = [
            other for other, n in enumerate(counts) if other != column and n >= LEAST_QUESTIONS
        ]
        if not others:
            continue
        progress(f"gains over {first} by its confidence")
        inputs = np.column_stack((x, confidence)).astype(np.float32)
        base, means = np.full(len(outcomes.models), np.nan), np.eye(len(outcomes.models))
        base[column] = 0.0
        parts: list[_Part] = []
        for other in others:
            mean = float(np.nanmean(gains[:, other]))
            part = _fit(inputs, gains[:, other] - mean, means[other], seed, progress)
            if part is not None:
                base[other] = mean
                parts.append(part)
        if parts:
            gains_over[first] = _stack_trees(parts, base)
    return gains_over


def _fit(
    x: Floats, target: Doubles, loadings: Doubles, seed: int, progress: Progress
) -> _Part | None:
    """Fit trees for one target, and scale their loadings by ``came_true``.

    Returns:
        None where the features predict the target no better than chance.
    """
    recorded = np.flatnonzero(~np.isnan(target))
    x, target = x[recorded], target[recorded]
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    crossed = np.zeros(len(x))
    for held in range(FOLDS):
        progress(f"cross-fitting, {held + 1} of {FOLDS}")
        test = fold == held
        crossed[test] = np.asarray(_boost(x[~test], target[~test], seed).predict(x[test]))
    scale = came_true(crossed, target)
    if scale <= 0.0:
        return None
    progress("fitting on all rows")
    dumped = _boost(x, target, seed).dump_model()["tree_info"]
    return [tree["tree_structure"] for tree in dumped], loadings * scale


def came_true(predicted: Doubles, target: Doubles) -> float:
    """Return the slope of the target on its prediction, shrunk to 0.

    The slope is shrunk by its own noise, to nothing where it is within one standard error of 0.

    Source: positive-part James-Stein estimation (James & Stein, 1961).
    """
    power = float(predicted @ predicted)
    if power <= 0.0:
        return 0.0
    slope = float(predicted @ target) / power
    rest = target - slope * predicted
    variance = float(rest @ rest) / max(len(target) - 1, 1) / power
    if slope <= 0.0:
        return 0.0
    return min(slope * max(1.0 - variance / slope**2, 0.0), _MOST)


def _boost(x: Floats, target: Doubles, seed: int) -> lgb.Booster:
    model = lgb.LGBMRegressor(
        n_estimators=TREES,
        learning_rate=0.1,
        num_leaves=4,
        max_depth=2,
        min_child_samples=max(10, min(200, len(x) // 50)),
        subsample=0.7,
        subsample_freq=1,
        reg_lambda=10.0,
        boost_from_average=False,
        random_state=seed,
        n_jobs=1,
        verbose=-1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, target)
    return model.booster_


def _stack_trees(parts: list[_Part], base: Doubles) -> BoostedPairs:
    """Stack the trees of all parts side by side."""
    questions: list[tuple[tuple[int, float], ...]] = []
    weights: list[Doubles] = []
    bias = base.copy()
    for trees, loadings in parts:
        for tree in trees:
            if "split_feature" not in tree:
                bias += tree["leaf_value"] * loadings
                continue
            left, (a, b) = _split_of(tree["left_child"])
            right, (c, d) = _split_of(tree["right_child"])
            questions.append(((tree["split_feature"], tree["threshold"]), left, right))
            weights.append(np.outer([c - a, b - a, a - b, d - c], loadings))
            bias += a * loadings
    t, m = len(questions), len(base)
    flat = [question for side in zip(*questions, strict=True) for question in side]
    stacked = np.array(weights).reshape(t, 4, m).transpose(1, 0, 2).reshape(4 * t, m)
    return BoostedPairs(
        feature=np.array([feature for feature, _ in flat], np.int32),
        threshold=np.array([threshold for _, threshold in flat], np.float32),
        weights=stacked.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def _split_of(node: dict[str, Any]) -> tuple[tuple[int, float], tuple[float, float]]:
    """Return the split of a second-level node and its leaves; a leaf's split is always no."""
    if "split_feature" not in node:
        return (0, np.inf), (node["leaf_value"],) * 2
    leaves = node["left_child"]["leaf_value"], node["right_child"]["leaf_value"]
    return (node["split_feature"], node["threshold"]), leaves


def _usual_row(x: Floats) -> tuple[Floats, Floats, float]:
    """Return a usual row, one over the usual distance from it, and the rarely exceeded distance."""
    centre = np.median(x, axis=0)
    scale = np.quantile(np.abs(x - centre), _FAR, axis=0)
    scale = np.where(scale > 0, scale, np.maximum(np.abs(x - centre).max(axis=0), 1.0))
    inverse = (1.0 / scale).astype(np.float32)
    distance = np.abs((x - centre) * inverse).max(axis=1)
    return centre.astype(np.float32), inverse, float(np.quantile(distance, _FAR))


def _ratios(p_good: Floats) -> tuple[Floats, Floats]:
    """Return the range of the ratio of two models' P(good) over the rows, without outliers."""
    ratio = p_good[:, :, None] / p_good[:, None, :]
    least, most = np.quantile(ratio, [_UNUSUAL, 1.0 - _UNUSUAL], axis=0)
    return least.astype(np.float32), most.astype(np.float32)
