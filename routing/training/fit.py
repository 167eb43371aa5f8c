"""Training of a router: from recorded outcomes to a ``LearnedQuality``."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from routing.features.key import question_key
from routing.quality.cold_start import Novelty
from routing.quality.encoder import Encoded, Encoder
from routing.quality.forest import Forest
from routing.quality.heads import GramHeads, Heads
from routing.quality.kernel import KernelHeads, Landmarks
from routing.quality.learned import LearnedQuality
from routing.training.calibrate import base_rates, calibrate
from routing.training.cold_start import fit_cold_start
from routing.training.estimators import (
    estimate_forest,
    fit_forest,
    fit_grams,
    inverse_frequency,
    weighed,
)
from routing.training.exact import fit_exact
from routing.training.factors import without_own_answers
from routing.training.features import design, standardised
from routing.training.kernel import Menu, choose_landmarks, combine, fit_menu, likeness
from routing.training.outcomes import Outcomes
from routing.training.stack import stack
from turnout.errors import TooFewOutcomes

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
Progress = Callable[[str], None]
FOLDS: Final = 4
LEAST_QUESTIONS: Final = 20
LEAST_FOR_RICH: Final = 300
MOST_MET: Final = 0.5
FULLER_PRIOR: Final = (0.2, 0.2, 0.25, 0.4)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The inputs of every fit: features of all questions, and their scores."""

    dense: Floats
    factors: Floats
    grams: sp.csr_matrix
    idf: NDArray[np.float16]
    score: Doubles
    encoder: Encoder
    leading: tuple[int, ...]

    def take(self, rows: Rows) -> _Inputs:
        return replace(
            self,
            dense=self.dense[rows],
            factors=self.factors[rows],
            grams=self.grams[rows, :],
            score=self.score[rows],
        )

    @property
    def features(self) -> Floats:
        """Dense features and factors side by side, as trees read them."""
        return np.concatenate((self.dense, self.factors), axis=1)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The estimates of one fit."""

    landmarks: Landmarks
    menu: Menu
    usual_factors: Floats
    forest: Forest | None
    grams: GramHeads | None
    exact: KernelHeads | None

    def kernels(self, inputs: _Inputs) -> list[Floats]:
        """Return deviations from the base rate by each member of the kernel's menu."""
        centred = inputs.factors - self.usual_factors
        return self.menu.estimates(likeness(self.landmarks, inputs.dense), centred)

    def rest(self, inputs: _Inputs) -> list[Floats]:
        """Return deviations by trees, n-grams and the exact kernel; empty where there are none."""
        if self.forest is None or self.grams is None or self.exact is None:
            return []
        return [
            estimate_forest(self.forest, inputs.features) - self.forest.bias,
            inputs.grams @ self.grams.weights.astype(np.float32),
            likeness(self.exact.landmarks, inputs.dense) @ self.exact.weights
            + (inputs.factors - self.usual_factors) @ self.exact.factor_weights,
        ]


def train_router(
    outcomes: Outcomes,
    encoder: Encoder,
    *,
    seed: int = 0,
    rich: bool = True,
    abilities: Sequence[int] | None = None,
    crossed: Floats | None = None,
    origin: str = "",
    progress: Progress = lambda _: None,
) -> LearnedQuality:
    """Fit every head, its calibration, the cold start and the novelty.

    Args:
        outcomes: at least ``LEAST_QUESTIONS`` questions.
        encoder: its words and vectors are kept, its means and spreads fitted anew.
        seed: of landmarks, folds and trees.
        rich: fit also the estimates of the fuller tier (trees, n-grams, exact kernel).
        abilities: see ``fit_cold_start``; None gives each model its own.
        crossed: factors of the questions, shape (n, k), where they are among those the encoder's
            factors were fitted on (``Pretrained.crossed``); None computes them, without the
            pool's memory of these models' own answers.
        origin: kept in the artifact.
        progress: called with each step.

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
    if crossed is None:
        encoder = without_own_answers(encoder, outcomes.models)
        crossed = table.factors(encoder)
    rich = rich and len(outcomes) >= LEAST_FOR_RICH
    crossed = forget(crossed, encoder.n_smooth, seed)
    idf = inverse_frequency(table.grams)
    inputs = _Inputs(
        dense=table.dense(encoder),
        factors=crossed,
        grams=weighed(table.grams, idf),
        idf=idf,
        score=outcomes.score,
        encoder=encoder,
        leading=() if encoder.factors is None else encoder.factors.leading,
    )
    menu, rest = _cross_fit(inputs, seed, rich=rich, progress=progress)
    base = base_rates(outcomes.score)
    deviation = outcomes.score - base
    share = stack(menu, deviation, np.full(len(menu), 1.0 / len(menu)))
    fast: Doubles = np.einsum("j,jnm->nm", share, np.stack(menu))
    weights, full = np.array([1.0, 0.0, 0.0, 0.0]), fast
    if rich:
        weights = stack([fast, *rest], deviation, np.array(FULLER_PRIOR))
        full = np.einsum("j,jnm->nm", weights, np.stack([fast, *rest]))
    progress("fitting on all questions")
    parts, rates = _fit(inputs, seed, rich=rich), base.astype(np.float32)
    heads = Heads(
        models=outcomes.models,
        base_rate=rates,
        kernel=combine(parts.landmarks, parts.menu, share, parts.usual_factors, base),
        forest=parts.forest and replace(parts.forest, bias=rates),
        grams=parts.grams and replace(parts.grams, bias=rates),
        exact=parts.exact
        and replace(parts.exact, bias=rates - parts.usual_factors @ parts.exact.factor_weights),
        weights=cast("tuple[float, float, float, float]", tuple(weights.tolist())),
        fast=calibrate(base + fast, outcomes.score),
        full=calibrate(base + full, outcomes.score),
    )
    progress("fitting the cold start")
    columns = range(outcomes.score.shape[1])
    cold = fit_cold_start(
        inputs.features, outcomes.score, list(abilities or columns), inputs.factors.shape[1], seed
    )
    empty = np.zeros(0, dtype=np.int64)
    distance = [
        Novelty.score(Encoded(row, row[:0], empty, row[:0], 1.0 - float(unknown)))
        for row, unknown in zip(inputs.dense, table.raw[:, encoder.unknown_column], strict=True)
    ]
    novelty = Novelty(usual=float(np.quantile(distance, 0.99)))
    trained_on = np.array(sorted(set(map(question_key, outcomes.prompts))), dtype=np.uint64)
    return LearnedQuality(encoder, heads, cold, novelty, trained_on, origin)


def forget(factors: Floats, n_smooth: int, seed: int) -> Floats:
    """Return the factors as if the pool had been scored on at most half of the prompts.

    Trained on prompts that the pool all remembers, trees and calibration were too sure of those it
    does not remember, which are the usual ones.
    """
    forgotten = factors.copy()
    met = np.flatnonzero(forgotten[:, n_smooth:].any(axis=1))
    n_kept = int(MOST_MET * len(forgotten))
    forgotten[np.random.default_rng(seed).permutation(met)[n_kept:], n_smooth:] = 0.0
    return forgotten


def _cross_fit(
    inputs: _Inputs, seed: int, *, rich: bool, progress: Progress
) -> tuple[list[Doubles], list[Doubles]]:
    """Return every question's deviations by fits on other questions: of the menu, and the rest."""
    n = len(inputs.dense)
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    menu: list[Doubles] = []
    rest: list[Doubles] = []
    for held in range(FOLDS):
        progress(f"cross-fitting, part {held + 1} of {FOLDS}")
        test = np.flatnonzero(fold == held)
        parts, unseen = (
            _fit(inputs.take(np.flatnonzero(fold != held)), seed, rich=rich),
            inputs.take(test),
        )
        for store, estimates in ((menu, parts.kernels(unseen)), (rest, parts.rest(unseen))):
            store += [np.zeros(inputs.score.shape) for _ in estimates[len(store) :]]
            for table, part in zip(store, estimates, strict=True):
                table[test] = part
    return menu, rest


def _fit(inputs: _Inputs, seed: int, *, rich: bool) -> _Parts:
    marks = choose_landmarks(inputs.dense, inputs.encoder, seed)
    like = likeness(marks, inputs.dense)
    return _Parts(
        marks,
        fit_menu(marks, like, inputs.factors, inputs.score, inputs.leading),
        inputs.factors.mean(axis=0),
        fit_forest(inputs.features, inputs.score, seed) if rich else None,
        fit_grams(inputs.grams, inputs.idf, inputs.score) if rich else None,
        fit_exact(inputs.dense, inputs.factors, inputs.encoder, inputs.score, seed)
        if rich
        else None,
    )
