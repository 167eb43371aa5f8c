"""Predictions of a trained router, of prompts or of features, for a table's queries."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from routing.evaluation.seen_questions import seen_by
from routing.quality import LearnedQuality, ModelPrior, load_router
from routing.quality.feature_artifact import is_feature_router, load_feature_router
from routing.quality.feature_quality import FeatureQuality
from turnout.errors import DataError

if TYPE_CHECKING:
    from routing.training.outcomes import Outcomes

Trained: TypeAlias = LearnedQuality | FeatureQuality
Step: TypeAlias = Callable[[str], None]
Array: TypeAlias = "np.ndarray[Any, Any]"


def load_trained(folder: Path) -> Trained:
    """Load the router of a folder, of either kind.

    Raises:
        ArtifactInvalid: the folder holds no readable router.
    """
    return load_feature_router(folder) if is_feature_router(folder) else load_router(folder)


def predict_all(quality: Trained, path: Path, *, fast: bool, step: Step) -> tuple[list[str], Array]:
    """Predict every trained model's P(good) for every query of a table; scores are not read.

    Returns:
        query ids, and shape (n, m).

    Raises:
        DataError: the table cannot be read, or its queries are of the other kind.
    """
    from routing.training.outcomes import read_prompts, read_queries

    if isinstance(quality, FeatureQuality):
        ids, features = read_queries(path, quality.names)
        return ids, quality.predict(features.astype(np.float32))
    ids, prompts = read_prompts(path)
    return ids, _of_prompts(quality, prompts, quality.models, fast=fast, step=step)


def predict_pair(
    quality: Trained,
    path: Path,
    weak: str,
    strong: str,
    *,
    fast: bool,
    step: Step,
    cascade: bool = False,
    only_new: bool = False,
) -> tuple[Outcomes, Array]:
    """Return the questions that both models answered, and predictions, weak then strong.

    Args:
        quality: the router.
        path: an outcome table.
        weak: the cheaper model.
        strong: the better one.
        fast: use the real-time tier.
        step: called with the progress.
        cascade: predict the strong model's gain with the weak one's confidence in its answer.
        only_new: leave out the questions that the router has seen.

    Raises:
        DataError: there are none, a model has no head, the queries are of the other kind, a
            cascade's confidence is missing, or ``only_new`` is set for a router of rows.
    """
    from routing.training.outcomes import check_names, read_outcomes

    if weak == strong:
        raise DataError(f"--weak and --strong are both {weak!r}: give two models")
    table = read_outcomes([path]).only([weak, strong])
    table = table.take(np.flatnonzero(~np.isnan(table.score).any(axis=1)))
    if not len(table):
        raise DataError(f"{path}: no question was answered by both {weak!r} and {strong!r}")
    for name in (weak, strong):
        if name not in quality.models:
            heads = ", ".join(quality.models)
            raise DataError(f"this router has no head for {name!r}; it has: {heads}")
    if isinstance(quality, FeatureQuality):
        if only_new:
            raise DataError("--only-new: a router of rows keeps no list of its questions")
        if not table.has_features:
            raise DataError(f"{path} has prompts, and this router was trained on features")
        check_names(path, table.feature_names, quality.names)
        rows = table.features.astype(np.float32)
        p_good = quality.predict(rows)[:, [quality.models.index(name) for name in (weak, strong)]]
        return _with_confidence(quality, path, table, rows, p_good) if cascade else (table, p_good)
    if cascade:
        raise DataError("--cascade: only routers trained on features learn from a confidence")
    if table.has_features:
        raise DataError(f"{path} has features, and this router was trained on prompts")
    if only_new:
        seen = seen_by(quality, table.prompts)
        if not len(seen.new):
            raise DataError(f"--only-new: {seen}; give a table with others")
        table = table.take(seen.new)
    return table, _of_prompts(quality, table.prompts, (weak, strong), fast=fast, step=step)


def _with_confidence(
    quality: FeatureQuality, path: Path, table: Outcomes, rows: Array, p_good: Array
) -> tuple[Outcomes, Array]:
    """Replace the expected gain by the one given the weak model's confidence.

    Rows unlike those of the training keep the gain expected without it.
    """
    weak, strong = table.models
    if weak not in quality.after:
        raise DataError(f"this router was trained without the confidence of {weak!r}")
    if not len(table.confidence) or np.isnan(confidence := table.confidence[:, 0]).any():
        raise DataError(f"{path}: column 'confidence' is empty for answers of {weak!r}")
    gain = quality.gain_after(weak, strong, rows, confidence.astype(np.float32))
    gain = np.where(np.isnan(gain), p_good[:, 1] - p_good[:, 0], gain)
    return table, np.column_stack((p_good[:, 0], p_good[:, 0] + gain))


def _of_prompts(
    quality: LearnedQuality,
    prompts: Sequence[str],
    models: Sequence[str],
    *,
    fast: bool,
    step: Step,
) -> Array:
    candidates = [ModelPrior(name, 0.5) for name in models]
    result = np.empty((len(prompts), len(models)))
    for row, prompt in enumerate(prompts):
        if row % 500 == 0:
            step(f"predicting, {row} of {len(prompts)} prompts")
        result[row] = quality.predict(prompt, candidates, fast=fast)
    return result
