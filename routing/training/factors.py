"""Fitting the factors of a pool of models: what is easy, and for which kind of model.

And its memory: how far each prompt it was asked lies from what the features say of it.
"""

# pyright: basic

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.features.key import NO_KEY
from routing.quality.encoder import Encoder
from routing.quality.factors import Factors, standardise
from routing.quality.memory import STEPS, Memory
from routing.training.calibrate import mean_scores
from routing.training.features import design, standardised
from routing.training.kernel import Normal, between, blocks, choose_landmarks, likeness
from routing.training.outcomes import Outcomes, same_model
from turnout.errors import DataError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
LANDMARKS: Final = 512
KERNEL: Final = ((0.1, 1.0),)
NOISE: Final = 2.0
PER_TABLE: Final = 4
FOLDS: Final = 4
OWN_SHARE: Final = 0.1
LEAST_SPREAD: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Pretrained:
    """An encoder that knows the pool.

    Attributes:
        encoder: with factors.
        crossed: for each table, the factors of its questions, shape (n, k), each predicted from
            other questions only and none remembered: what training heads of the pool's own models
            must use, whose answers are in the memory.
    """

    encoder: Encoder
    crossed: tuple[Floats, ...]


def pretrain(tables: Sequence[Outcomes], encoder: Encoder, *, seed: int = 0) -> Pretrained:
    """Regress each table's scores on likeness and keep the leading directions.

    Args:
        tables: each with models in its columns; a table's factors come from its models only.
        encoder: whose features are used; factors it has are replaced.
        seed: of landmarks and folds.

    Raises:
        DataError: a table's questions all score the same.
    """
    designs = [design(encoder, table.prompts) for table in tables]
    units = standardised(encoder, np.concatenate([one.raw for one in designs]))
    dense = [standardise(one.raw, units.mean, units.inverse_std) for one in designs]
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
    surplus: list[Doubles] = []
    for number, table in enumerate(tables):
        whole = _regress(near[number], own, table.score)
        predicted = near[number] @ whole
        predicted -= predicted.mean(axis=0)
        turn = _directions(predicted, table.models)
        weights.append(whole @ turn)
        beyond = table.score - mean_scores(table.score) - predicted
        surplus.append(np.nan_to_num(beyond) @ turn)
        for other, seen in enumerate(near):
            values = seen @ weights[-1]
            if other == number:
                values = _cross(seen, own, table.score, seed) @ turn
            crossed[other].append(values)
    flat = np.concatenate(weights, axis=1).astype(np.float32)
    bias = -np.concatenate(near).mean(axis=0) @ flat
    memory = _remember([one.keys for one in designs], surplus)
    ends = np.cumsum([part.shape[1] for part in weights]).tolist()
    factors = Factors(
        mean=units.mean,
        inverse_std=units.inverse_std,
        landmarks=marks,
        weights=flat,
        bias=bias,
        leading=(0, *ends[:-1]),
        models=tuple(table.models for table in tables),
        memory=memory,
    )
    unmet = [np.zeros((len(table), memory.width)) for table in tables]
    return Pretrained(
        replace(encoder, factors=factors),
        tuple(
            np.concatenate((np.concatenate(parts, axis=1) + bias, zeros), axis=1, dtype=np.float32)
            for parts, zeros in zip(crossed, unmet, strict=True)
        ),
    )


def _directions(predicted: Doubles, models: Sequence[str]) -> Doubles:
    """From scores of the models to the leading factors, each of unit size, shape (m, k).

    Args:
        predicted: what features say of each model's score, centred, shape (n, m).
        models: their names.

    Raises:
        DataError: every question scores the same.
    """
    n = len(predicted)
    _, scale, right = np.linalg.svd(predicted, full_matrices=False)
    if scale[0] < LEAST_SPREAD * n:
        raise DataError(
            f"the pool of {', '.join(models)} tells nothing: every question scores the same; "
            "give outcomes that differ"
        )
    kept = right[:PER_TABLE][scale[:PER_TABLE] > LEAST_SPREAD * scale[0]]
    kept = kept * np.sign(kept.sum(axis=1, keepdims=True) + 1e-12)
    return kept.T / (scale[: len(kept)] / np.sqrt(n))


def _remember(keys: Sequence[Sequence[int]], surplus: Sequence[Doubles]) -> Memory:
    """One row for each key, the tables' columns side by side.

    Of questions of one table that share a key (the same stem with other options) nothing is
    remembered: which of them a prompt would be is not known.
    """
    distinct = set().union(*keys) - {NO_KEY}
    row_of = {key: row for row, key in enumerate(sorted(distinct))}
    whole = np.zeros((len(row_of), sum(part.shape[1] for part in surplus)))
    start = 0
    for found, part in zip(keys, surplus, strict=True):
        times, columns = Counter(found), slice(start, start + part.shape[1])
        alone = [row for row, key in enumerate(found) if times[key] == 1 and key != NO_KEY]
        places = [row_of[found[row]] for row in alone]
        whole[places, columns] = part[alone] / (part.std(axis=0) + 1e-9)
        start += part.shape[1]
    steps = np.clip(np.round(whole * STEPS), -127, 127).astype(np.int8)
    return Memory(np.array(list(row_of), dtype=np.uint64), steps)


def without_own_answers(encoder: Encoder, models: Sequence[str]) -> Encoder:
    """The encoder, its memory silent where it holds too much of what these models answered.

    What predicts an answer because it is that answer would count for more than it can say of the
    next prompt. Among two dozen models two of them do no harm, among nine they do
    (docs/decisions/0015), so the line is drawn at ``OWN_SHARE`` of a table.
    """
    factors = encoder.factors
    if factors is None:
        return encoder
    trained, surplus = set(map(same_model, models)), factors.memory.surplus.copy()
    ends = (*factors.leading[1:], len(factors.bias))
    for start, end, names in zip(factors.leading, ends, factors.models, strict=True):
        if sum(same_model(name) in trained for name in names) > OWN_SHARE * len(names):
            surplus[:, start:end] = 0
    return replace(encoder, factors=replace(factors, memory=Memory(factors.memory.keys, surplus)))


def _regress(near: Floats, own: Doubles, score: Doubles) -> Doubles:
    """Kernel ridge of every model's score, shape (landmarks, m)."""
    weights = np.zeros((near.shape[1], score.shape[1]))
    for rows, columns in blocks(score):
        target = score[np.ix_(rows, columns)]
        nothing = np.zeros((len(rows), 0))
        normal = Normal.of(near[rows], own, nothing, target - target.mean(axis=0))
        weights[:, columns] = normal.solve(NOISE, np.zeros(0))[0]
    return weights


def _cross(near: Floats, own: Doubles, score: Doubles, seed: int) -> Doubles:
    """Predictions of every question from the questions of other folds, shape (n, m)."""
    fold = np.random.default_rng(seed).permutation(len(near)) % FOLDS
    found = np.zeros(score.shape)
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        found[test] = near[test] @ _regress(near[train], own, score[train])
    return found
