"""Fitting the factors of a pool of models: what is easy, and for which kind of model."""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoder
from routing.quality.factors import Factors, standardise
from routing.training.features import design, standardised
from routing.training.kernel import Normal, between, blocks, choose_landmarks, likeness
from routing.training.outcomes import Outcomes

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
LANDMARKS: Final = 512
KERNEL: Final = ((0.1, 1.0),)
NOISE: Final = 2.0
PER_TABLE: Final = 4
FOLDS: Final = 4


@dataclass(frozen=True, slots=True)
class Pretrained:
    """An encoder that knows the pool.

    Attributes:
        encoder: with factors.
        crossed: for each table, the factors of its questions, shape (n, k), each predicted from
            other questions only: what training on the same questions again must use.
    """

    encoder: Encoder
    crossed: tuple[Floats, ...]


def pretrain(tables: Sequence[Outcomes], encoder: Encoder, *, seed: int = 0) -> Pretrained:
    """Regress each table's scores on likeness and keep the leading directions.

    Args:
        tables: each with models in its columns; a table's factors come from its models only.
        encoder: whose features are used; factors it has are replaced.
        seed: of landmarks and folds.
    """
    raws = [design(encoder, table.prompts).raw for table in tables]
    units = standardised(encoder, np.concatenate(raws))
    dense = [standardise(raw, units.mean, units.inverse_std) for raw in raws]
    share = [d[np.random.default_rng(seed).permutation(len(d))] for d in dense]
    least = min(len(d) for d in dense)
    marks = choose_landmarks(
        np.concatenate([s[: min(least, LANDMARKS)] for s in share]),
        encoder,
        seed,
        count=LANDMARKS,
        kernels=KERNEL,
    )
    own = between(marks).astype(np.float64)
    near = [likeness(marks, d) for d in dense]
    weights: list[Doubles] = []
    crossed: list[list[Doubles]] = [[] for _ in tables]
    leading: list[int] = []
    for number, table in enumerate(tables):
        whole = _regress(near[number], own, table.score)
        predicted = near[number] @ whole
        _, scale, right = np.linalg.svd(predicted - predicted.mean(axis=0), full_matrices=False)
        kept = right[: min(PER_TABLE, len(right))]
        kept = kept * np.sign(kept.sum(axis=1, keepdims=True) + 1e-12)
        turn = kept.T / (scale[: len(kept)] / np.sqrt(len(table)))
        leading.append(sum(w.shape[1] for w in weights))
        weights.append(whole @ turn)
        for other, seen in enumerate(near):
            values = seen @ weights[-1]
            if other == number:
                values = _cross(seen, own, table.score, seed) @ turn
            crossed[other].append(values)
    flat = np.concatenate(weights, axis=1).astype(np.float32)
    bias = -np.concatenate(near).mean(axis=0) @ flat
    factors = Factors(units.mean, units.inverse_std, marks, flat, bias, tuple(leading))
    return Pretrained(
        replace(encoder, factors=factors),
        tuple((np.concatenate(parts, axis=1) + bias).astype(np.float32) for parts in crossed),
    )


def _regress(near: Floats, own: Doubles, score: Doubles) -> Doubles:
    """Kernel ridge of every model's score, shape (landmarks, m)."""
    weights = np.zeros((near.shape[1], score.shape[1]))
    for rows, columns in blocks(score):
        target = score[np.ix_(rows, columns)]
        nothing = np.zeros((len(rows), 0))
        normal = Normal.of(near[rows], own, nothing, target - target.mean(axis=0))
        weights[:, columns] = normal.solve(NOISE)[0]
    return weights


def _cross(near: Floats, own: Doubles, score: Doubles, seed: int) -> Doubles:
    """Predictions of every question from the questions of other folds, shape (n, m)."""
    fold = np.random.default_rng(seed).permutation(len(near)) % FOLDS
    found = np.zeros(score.shape)
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        found[test] = near[test] @ _regress(near[train], own, score[train])
    return found
