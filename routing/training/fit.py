"""Training a router: from recorded outcomes to a ``LearnedQuality``."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoded, Encoder
from routing.quality.forest import Forest
from routing.quality.heads import Calibration, Heads
from routing.quality.kernel import KernelHeads
from routing.quality.learned import LearnedQuality
from routing.quality.novelty import Novelty
from routing.quality.term_heads import TermHeads
from routing.training.cold_start import fit_cold_start
from routing.training.estimators import (
    choose_landmarks,
    estimate_forest,
    fit_forest,
    fit_kernel,
    fit_terms,
    likeness,
)
from routing.training.features import Design, design, standardised
from routing.training.outcomes import Outcomes
from turnout.errors import TooFewOutcomes

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Progress = Callable[[str], None]
FOLDS: Final = 4
LEAST_QUESTIONS: Final = 20
RIDGE: Final = 20.0
LEAST_FOR_RICH: Final = 500
HALF_WEIGHT_AT: Final = 3_000


@dataclass(frozen=True, slots=True)
class _Parts:
    """The estimates of one fit."""

    kernel: KernelHeads
    forest: Forest | None
    terms: TermHeads | None


def train_router(
    outcomes: Outcomes,
    encoder: Encoder,
    *,
    seed: int = 0,
    rich: bool = True,
    abilities: Sequence[int] | None = None,
    origin: str = "",
    progress: Progress = lambda _: None,
) -> LearnedQuality:
    """Fit every head, its calibration, the cold start and the novelty.

    Args:
        outcomes: at least ``LEAST_QUESTIONS`` questions.
        encoder: its words and vectors are kept, its means and spreads fitted anew.
        seed: of landmarks, folds and trees.
        rich: fit also the estimates of the fuller tier (trees and terms).
        abilities: see ``fit_cold_start``; None gives each model its own.
        origin: kept in the artifact.
        progress: told each step.

    Raises:
        TooFewOutcomes: fewer questions than ``LEAST_QUESTIONS``.
    """
    if len(outcomes) < LEAST_QUESTIONS:
        raise TooFewOutcomes(
            f"{len(outcomes)} questions are too few to train on (at least {LEAST_QUESTIONS}); "
            "until there are more, give the models a prior in the catalog"
        )
    progress(f"reading {len(outcomes)} prompts")
    table = design(encoder, outcomes.prompts)
    encoder = standardised(encoder, table.raw)
    dense = table.dense(encoder).astype(np.float32)
    score, n = outcomes.score, len(outcomes)
    rich = rich and n >= LEAST_FOR_RICH
    share = n / (n + HALF_WEIGHT_AT) if rich else 0.0
    weights = (1.0 / (1.0 + 2.0 * share), *(2 * [share / (1.0 + 2.0 * share)]))
    fast, full = np.full(score.shape, np.nan), np.full(score.shape, np.nan)
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    for held in range(FOLDS):
        progress(f"cross-fitting, part {held + 1} of {FOLDS}")
        rows, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        parts = _fit(table, dense, score, rows, encoder.n_form, seed, rich=rich)
        fast[test], full[test] = _estimate(parts, table, dense, test, weights)
    base = np.nanmean(score, axis=0)
    if rich:
        stretch = _stretch(full - base, score - base)
        weights = tuple(stretch * weight for weight in weights)
        full = base + stretch * (full - base)
    progress("fitting on all questions")
    parts = _fit(table, dense, score, np.arange(n), encoder.n_form, seed, rich=rich)
    heads = Heads(
        models=outcomes.models,
        base_rate=base.astype(np.float32),
        kernel=parts.kernel,
        forest=parts.forest,
        terms=parts.terms,
        weights=(weights[0], weights[1], weights[2]),
        fast=calibrate(fast, score),
        full=calibrate(full, score),
    )
    progress("fitting the cold start")
    cold = fit_cold_start(dense, score, list(abilities or range(score.shape[1])), seed)
    empty = np.zeros(0, dtype=np.int64)
    distance = [
        Novelty.score(Encoded(row, empty, row[:0], 1.0 - float(unknown)))
        for row, unknown in zip(dense, table.raw[:, encoder.unknown_column], strict=True)
    ]
    novelty = Novelty(usual=float(np.quantile(distance, 0.99)))
    return LearnedQuality(encoder, heads, cold, novelty, origin)


def _stretch(estimate: Doubles, score: Doubles) -> float:
    """Slope of the recorded on the cross-fitted deviations, one for all models, in [0.5, 3]."""
    answered = ~np.isnan(score)
    x, y = estimate[answered], score[answered]
    return float(np.clip((x @ y) / max(float(x @ x), 1e-9), 0.5, 3.0))


def _fit(
    table: Design,
    dense: Floats,
    score: Doubles,
    rows: NDArray[np.int64],
    n_form: int,
    seed: int,
    *,
    rich: bool,
) -> _Parts:
    landmarks = choose_landmarks(dense[rows], n_form, seed)
    part = score[rows]
    return _Parts(
        fit_kernel(landmarks, likeness(landmarks, dense[rows]), part),
        fit_forest(dense[rows], part, seed) if rich else None,
        fit_terms(table.terms[rows], part) if rich else None,
    )


def _estimate(
    parts: _Parts,
    table: Design,
    dense: Floats,
    rows: NDArray[np.int64],
    weights: Sequence[float],
) -> tuple[Floats, Floats]:
    """Estimates of both tiers, each of shape (rows, m)."""
    kernel = parts.kernel
    fast = likeness(kernel.landmarks, dense[rows]) @ kernel.weights + kernel.bias
    full = weights[0] * fast
    if parts.forest is not None:
        full = full + weights[1] * estimate_forest(parts.forest, dense[rows])
    if parts.terms is not None:
        terms = table.terms[rows] @ parts.terms.weights.astype(np.float32) + parts.terms.bias
        full = full + weights[2] * terms
    return fast, full


def calibrate(estimate: NDArray[np.floating], score: Doubles) -> Calibration:
    """Platt scaling of cross-fitted estimates, drawn to the identity when outcomes are few.

    All models share the slope, so that calibration does not reorder their gains (a slope each
    cost half a point of APGR on MMLU); the shift is each model's own.

    Args:
        estimate: shape (n, m), of questions the estimate was not fitted on.
        score: shape (n, m), in [0, 1], NaN where a model did not answer.
    """
    m = score.shape[1]
    answered = ~np.isnan(score)
    p = np.clip(np.nan_to_num(estimate, nan=0.5), 0.01, 0.99)
    offset, y = np.log(p / (1.0 - p)), np.nan_to_num(score)
    slope, shift = 1.0, np.zeros(m)
    for _ in range(30):
        q = 1.0 / (1.0 + np.exp(-np.clip(slope * offset + shift, -30.0, 30.0)))
        wrong = np.where(answered, q - y, 0.0)
        curvature = np.where(answered, q * (1.0 - q), 0.0)
        step = (wrong.sum(axis=0) + RIDGE * shift) / (curvature.sum(axis=0) + RIDGE)
        shift -= step
        gradient = float((wrong * offset).sum()) + RIDGE * (slope - 1.0)
        turn = gradient / (float((curvature * offset**2).sum()) + RIDGE)
        slope -= turn
        if max(float(np.abs(step).max()), abs(turn)) < 1e-6:
            break
    return Calibration(np.full(m, slope, dtype=np.float32), shift.astype(np.float32))
