"""Confidence of a model in its own answer, in [0, 1], by which a cascade escalates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from turnout.types import Task, Tensors


def of_rows(task: Task, tensors: Tensors) -> np.ndarray[Any, Any]:
    """Return the confidence in each row of an answer: shape (n,), float32.

    Images: the probability of the best class against the second where the engine is ours, else
    that of the best class. Texts: the probability of the best class. Tabular: that of the likelier
    outcome. Other tasks have confidence 1.
    """
    if "confidence" in tensors:
        return tensors["confidence"]
    if task is Task.IMAGE or task is Task.CLASSIFY_TEXT:
        return tensors["score"]
    if task is Task.TABULAR:
        probability = tensors["probability"]
        return np.maximum(probability, 1.0 - probability)
    return np.ones(len(next(iter(tensors.values()))), np.float32)


def of_text(logprobs: Sequence[float]) -> float | None:
    """Return the tokens' geometric mean probability, exp(mean log-probability); None without any.

    One over this is the perplexity of the answer under its own model. The mean, unlike the sum,
    does not call every long answer unsure.
    """
    if not logprobs:
        return None
    return math.exp(min(math.fsum(logprobs) / len(logprobs), 0.0))
