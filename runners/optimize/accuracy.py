"""Measure a candidate's loss in the task's metric against the reference, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.metrics import average_precision_score

from runners.optimize.input_types import Inputs
from runners.optimize.intervals import Interval, bootstrap, paired_loss, wilson
from turnout.errors import DataError
from turnout.types import Task, Tensors

_AP_RESAMPLES = 200
Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The comparison of a candidate with the reference on the judged inputs.

    Attributes:
        metric: the name of the metric, in words.
        loss: the loss in the metric, with its interval; negative when the candidate is better.
        reference, candidate: the metric of each; None when the inputs have no labels.
        agreement: the share of inputs that both answer alike, with its interval.
        agreeing_on: the part of an answer that is compared for ``agreement``.
        max_abs_distance: largest difference of an output number.
        relative_distance: norm of all differences by the norm of the reference's outputs.
    """

    metric: str
    loss: Interval
    reference: float | None
    candidate: float | None
    agreement: Interval
    agreeing_on: str
    max_abs_distance: float
    relative_distance: float


def judge(
    task: Task, inputs: Inputs, reference: Tensors, candidate: Tensors, confidence: float
) -> Judgement:
    """Compare the outputs of a candidate and the reference; rows are in the order of the inputs.

    Args:
        task: decides the metric.
        inputs: the judged inputs, with their labels if known.
        reference: the reference's model outputs (not public ones).
        candidate: the candidate's.
        confidence: the confidence of the intervals.

    Raises:
        DataError: the candidate's outputs have other names or shapes, or are not finite.
    """
    name = _OUTPUTS[task]
    if name not in candidate or candidate[name].shape != reference[name].shape:
        raise DataError(
            f"the candidate's output {name!r} is missing or not of the reference's shape; "
            "leave the pass out"
        )
    expected, actual = (np.asarray(outputs[name], np.float64) for outputs in (reference, candidate))
    if not np.isfinite(actual).all():
        raise DataError(
            f"the candidate's {name!r} has values that are not finite; leave the pass out"
        )
    difference = actual - expected
    comparison = _COMPARISONS[task](inputs, expected, actual, confidence)
    return Judgement(
        *comparison,
        max_abs_distance=float(np.abs(difference).max()),
        relative_distance=float(np.linalg.norm(difference) / max(np.linalg.norm(expected), 1e-12)),
    )


_TaskComparison: TypeAlias = "tuple[str, Interval, float | None, float | None, Interval, str]"


def _image(inputs: Inputs, expected: Array, actual: Array, confidence: float) -> _TaskComparison:
    """Compare top-1 answers; the rows of a group count as one trial that may be partly right."""
    a, b = expected.argmax(axis=1), actual.argmax(axis=1)
    count = inputs.independent
    agreement = wilson(_grouped(inputs, a == b), count, confidence)
    if inputs.labels is None:
        loss = Interval(1 - agreement.value, 1 - agreement.high, 1 - agreement.low)
        return "other top-1 answers", loss, None, None, agreement, "top-1"
    right_a, right_b = a == inputs.labels, b == inputs.labels
    loss = paired_loss(
        _grouped(inputs, right_a & ~right_b),
        _grouped(inputs, right_b & ~right_a),
        count,
        confidence,
    )
    accuracy = (_grouped(inputs, right_a) / count, _grouped(inputs, right_b) / count)
    return "top-1 accuracy", loss, *accuracy, agreement, "top-1"


def _tabular(inputs: Inputs, expected: Array, actual: Array, confidence: float) -> _TaskComparison:
    """Compare average precision, and the rows in the riskiest hundredth."""
    labels = inputs.labels
    if labels is None or not 0 < labels.sum() < len(labels):
        raise DataError("inputs of a tabular model need labels of both kinds (TX_FRAUD)")
    expected, actual = expected.reshape(-1), actual.reshape(-1)

    def lost(rows: Array) -> float:
        if not labels[rows].any():
            return 0.0
        a, b = (float(average_precision_score(labels[rows], s[rows])) for s in (expected, actual))
        return a - b

    loss = bootstrap(lost, len(labels), confidence, _AP_RESAMPLES)
    precisions = [float(average_precision_score(labels, scores)) for scores in (expected, actual)]
    share = max(len(labels) // 100, 1)
    flagged = [set(np.argsort(-scores, kind="stable")[:share]) for scores in (expected, actual)]
    agreement = wilson(len(flagged[0] & flagged[1]), share, confidence)
    return (
        "average precision",
        loss,
        precisions[0],
        precisions[1],
        agreement,
        "the riskiest 1 % of rows",
    )


def _embed(inputs: Inputs, expected: Array, actual: Array, confidence: float) -> _TaskComparison:
    """Compare by 1 - cosine similarity, and by each text's nearest neighbour."""
    a, b = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (expected, actual)
    )
    lost = 1 - (a * b).sum(axis=1)
    loss = bootstrap(lambda rows: float(lost[rows].mean()), len(lost), confidence)
    nearest: list[Array] = []
    for vectors in (a, b):
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -np.inf)
        nearest.append(likeness.argmax(axis=1))
    is_same_neighbour = nearest[0] == nearest[1]
    agreement = wilson(float(is_same_neighbour.sum()), len(is_same_neighbour), confidence)
    return "cosine similarity", loss, 1.0, 1 - loss.value, agreement, "nearest neighbour"


def _grouped(inputs: Inputs, hits: Array) -> float:
    """Return the number of hits, where the rows of a group share one."""
    _, group, sizes = np.unique(inputs.groups, return_inverse=True, return_counts=True)
    return float((hits / sizes[group]).sum())


_COMPARISONS: Mapping[Task, Callable[[Inputs, Array, Array, float], _TaskComparison]] = {
    Task.IMAGE: _image,
    Task.TABULAR: _tabular,
    Task.EMBED: _embed,
}
_OUTPUTS = {Task.IMAGE: "logits", Task.TABULAR: "probability", Task.EMBED: "sentence"}
