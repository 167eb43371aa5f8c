"""One training run: a table in, a router in a folder out, and notes for a person."""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from routing.quality import LearnedQuality, ModelPrior, save_router
from routing.quality.artifact import DEFAULT_ROUTER, load_encoder
from routing.quality.encoder import Encoder
from routing.quality.feature_artifact import save_feature_router
from routing.training.calibrate import mean_scores
from routing.training.factors import pretrain
from routing.training.feature_fit import train_features
from routing.training.features import Progress
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes, read_pool
from turnout.errors import DataError

SOME_PROMPTS: Final = 200
LEAST_SPREAD: Final = 0.01


def train_and_save(
    table: Outcomes,
    out: Path,
    card: dict[str, Any],
    origin: str,
    pool: Sequence[Path],
    step: Progress,
) -> tuple[list[float], list[str]]:
    """Train on prompts or on features, and write the router.

    Args:
        table: outcomes of at least two models.
        out: folder of the router.
        card: further entries of ``router.json``; ``seed`` is read from it.
        origin: kept in the artifact.
        pool: tables of other models to use; none takes the pool that ships.
        step: called with each step.

    Returns:
        each model's mean score, and notes on the router for a person.

    Raises:
        DataError: a pool for features, or one without differences.
        TooFewOutcomes: too few questions, in the table or in the pool.
    """
    if table.has_features:
        if pool:
            raise DataError("--pool is of prompts; routers of rows of numbers have none")
        features_router = train_features(table, seed=card["seed"], origin=origin, progress=step)
        save_feature_router(features_router, out, card)
        flat = "the features tell nothing of who answers well: every row gets the mean scores"
        return features_router.base_rate.tolist(), [flat] if features_router.constant else []
    encoder, notes = load_encoder(DEFAULT_ROUTER), []
    if pool:
        step("reading the pool")
        others = read_pool(pool, table.models)
        encoder = pretrain([others], encoder, seed=card["seed"]).encoder
        card = card | {"pool": [path.name for path in pool]}
        notes.append(
            f"leans on {len(others)} questions of {', '.join(others.models)}; they were asked "
            f"{_in_pool(encoder, table)} of these {len(table)}"
        )
    router = train_router(table, encoder, seed=card["seed"], origin=origin, progress=step)
    step("writing")
    save_router(router, out, card)
    if _says_little(router, table.prompts):
        notes.append(
            "the prompts tell little of who answers well: predictions stay near the mean scores"
        )
    return mean_scores(table.score).tolist(), notes


def _in_pool(encoder: Encoder, table: Outcomes) -> int:
    """Return the number of the table's prompts that the pool was scored on."""
    memory = None if encoder.factors is None else encoder.factors.memory
    return 0 if memory is None else sum(map(memory.was_asked, table.prompts))


def _says_little(router: LearnedQuality, prompts: Sequence[str]) -> bool:
    """Return whether P(good) hardly differs between prompts, for every model."""
    models = [ModelPrior(name, 0.5) for name in router.models]
    some = prompts[:: max(1, len(prompts) // SOME_PROMPTS)]
    p_good = np.stack([router.predict(prompt, models, fast=True) for prompt in some])
    return bool(p_good.std(axis=0).max() < LEAST_SPREAD)
