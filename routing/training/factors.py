"""Fitting of a pool's factors (how easy a prompt is, and for which models) and of its memory.

The memory holds how far each scored prompt lies from its prediction by features.
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
    """An encoder with the factors of a pool.

    Attributes:
        encoder: with factors.
        crossed: for each table, the factors of its questions, shape (n, k), each predicted from
            other questions only and none remembered: training heads of the pool's own models
            must use these, since their answers are in the memory.
    """

    encoder: Encoder
    crossed: tuple[Floats, ...]


def pretrain(tables: Sequence[Outcomes], encoder: Encoder, *, seed: int = 0) -> Pretrained:
    """Fit the factors: regress each table's scores on likeness, keep the leading directions.

    Args:
        tables: each with models in its columns; a table's factors come from its models only.
        encoder: provides the features; its factors are replaced.
        seed: of landmarks and folds.

    Raises:
        DataError: a table's questions all score the same.
    """
    designs = [design(encoder, table.prompts) for table in tables]
    units = standardised(encoder, np.concatenate([each.raw for each in designs]))
    dense = [standardise(each.raw, units.mean, units.inverse_std) for each in designs]
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
        table_weights = _regress(near[number], own, table.score)
        predicted = near[number] @ table_weights
        predicted -= predicted.mean(axis=0)
        turn = _directions(predicted, table.models)
        weights.append(table_weights @ turn)
        beyond = table.score - mean_scores(table.score) - predicted
        surplus.append(np.nan_to_num(beyond) @ turn)
        for other, likeness_of in enumerate(near):
            values = likeness_of @ weights[-1]
            if other == number:
                values = _cross(likeness_of, own, table.score, seed) @ turn
            crossed[other].append(values)
    flat = np.concatenate(weights, axis=1).astype(np.float32)
    bias = -np.concatenate(near).mean(axis=0) @ flat
    memory = _remember([each.keys for each in designs], surplus)
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
    """Return the projection from models' scores to the leading factors of unit size, (m, k).

    Args:
        predicted: each model's score predicted from features, centred, shape (n, m).
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
    directions = right[:PER_TABLE][scale[:PER_TABLE] > LEAST_SPREAD * scale[0]]
    directions = directions * np.sign(directions.sum(axis=1, keepdims=True) + 1e-12)
    return directions.T / (scale[: len(directions)] / np.sqrt(n))


def _remember(keys: Sequence[Sequence[int]], surplus: Sequence[Doubles]) -> Memory:
    """Build the memory: one row for each key, the tables' columns side by side.

    Questions of one table that share a key (the same stem with other options) are not remembered:
    a prompt could be any of them.
    """
    distinct = set().union(*keys) - {NO_KEY}
    row_of = {key: row for row, key in enumerate(sorted(distinct))}
    memory = np.zeros((len(row_of), sum(part.shape[1] for part in surplus)))
    start = 0
    for table_keys, part in zip(keys, surplus, strict=True):
        times, columns = Counter(table_keys), slice(start, start + part.shape[1])
        alone = [row for row, key in enumerate(table_keys) if times[key] == 1 and key != NO_KEY]
        places = [row_of[table_keys[row]] for row in alone]
        memory[places, columns] = part[alone] / (part.std(axis=0) + 1e-9)
        start += part.shape[1]
    steps = np.clip(np.round(memory * STEPS), -127, 127).astype(np.int8)
    return Memory(np.array(list(row_of), dtype=np.uint64), steps)


def without_own_answers(encoder: Encoder, models: Sequence[str]) -> Encoder:
    """Return the encoder without the memory of tables dominated by these models' answers.

    A feature that is the answer itself would get more weight than it deserves on new prompts.
    Among two dozen models two of them do no harm, among nine they do
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
    """Return kernel ridge weights of every model's score, shape (landmarks, m)."""
    weights = np.zeros((near.shape[1], score.shape[1]))
    for rows, columns in blocks(score):
        target = score[np.ix_(rows, columns)]
        nothing = np.zeros((len(rows), 0))
        normal = Normal.of(near[rows], own, nothing, target - target.mean(axis=0))
        weights[:, columns] = normal.solve(NOISE, np.zeros(0))[0]
    return weights


def _cross(near: Floats, own: Doubles, score: Doubles, seed: int) -> Doubles:
    """Predict every question from the questions of other folds, shape (n, m)."""
    fold = np.random.default_rng(seed).permutation(len(near)) % FOLDS
    predicted = np.zeros(score.shape)
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        predicted[test] = near[test] @ _regress(near[train], own, score[train])
    return predicted
