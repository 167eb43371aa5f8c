"""What a trained router, of prompts or of features, says of the queries of a table."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from routing.evaluation.seen_questions import known_to
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
    """The router of a folder, of either kind.

    Raises:
        ArtifactInvalid: there is none that can be read.
    """
    return load_feature_router(folder) if is_feature_router(folder) else load_router(folder)


def predict_all(quality: Trained, path: Path, *, fast: bool, step: Step) -> tuple[list[str], Array]:
    """Every trained model's P(good) for every query of a table; scores are not read.

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
    """Questions that both models answered, and predictions for them, weak then strong.

    Args:
        quality: the router.
        path: an outcome table.
        weak: the cheaper model.
        strong: the better one.
        fast: use the real-time tier.
        step: told how far it is.
        cascade: predict the strong model's gain with the weak one's confidence in its answer.
        only_new: leave out the questions the router knows.

    Raises:
        DataError: there are none, a model has no head, the queries are of the other kind, a
            cascade's confidence is missing, or what a router of rows knows is asked for.
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
            known = ", ".join(quality.models)
            raise DataError(f"this router has no head for {name!r}; it has: {known}")
    if isinstance(quality, FeatureQuality):
        if only_new:
            raise DataError("--only-new: a router of rows of numbers does not keep what it knows")
        if not table.has_features:
            raise DataError(f"{path} has prompts, and this router was trained on features")
        check_names(path, table.feature_names, quality.names)
        rows = table.features.astype(np.float32)
        found = quality.predict(rows)[:, [quality.models.index(name) for name in (weak, strong)]]
        return (table, found) if not cascade else _after(quality, path, table, rows, found)
    if cascade:
        raise DataError("--cascade: only routers trained on features learn from a confidence")
    if table.has_features:
        raise DataError(f"{path} has features, and this router was trained on prompts")
    if only_new:
        known = known_to(quality, table.prompts)
        if not len(known.new):
            raise DataError(f"--only-new: {known}; give a table with others")
        table = table.take(known.new)
    return table, _of_prompts(quality, table.prompts, (weak, strong), fast=fast, step=step)


def _after(
    quality: FeatureQuality, path: Path, table: Outcomes, rows: Array, found: Array
) -> tuple[Outcomes, Array]:
    """The same with the gain known once the weak model has answered.

    Rows unlike those of the training keep the gain that is expected of them before.
    """
    weak, strong = table.models
    if weak not in quality.after:
        raise DataError(f"this router was trained without the confidence of {weak!r}")
    if not len(table.confidence) or np.isnan(sure := table.confidence[:, 0]).any():
        raise DataError(f"{path}: column 'confidence' is empty for answers of {weak!r}")
    gain = quality.gain_after(weak, strong, rows, sure.astype(np.float32))
    gain = np.where(np.isnan(gain), found[:, 1] - found[:, 0], gain)
    return table, np.column_stack((found[:, 0], found[:, 0] + gain))


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
