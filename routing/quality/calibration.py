"""From a head's score to a probability that means what it says."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def sigmoid(score: NDArray[np.floating]) -> Floats:
    """Logistic function, elementwise, without overflow."""
    return (1.0 / (1.0 + np.exp(-np.clip(score, -30.0, 30.0)))).astype(np.float32)


def logit(probability: float) -> float:
    """Log-odds of a probability, kept away from 0 and 1 by 1e-4."""
    p = min(max(probability, 1e-4), 1.0 - 1e-4)
    return math.log(p / (1.0 - p))
