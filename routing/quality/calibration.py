"""From a head's score to a probability that means what it says."""

from __future__ import annotations

import math


def sigmoid(score: float) -> float:
    """Logistic function, without overflow and inside (0, 1) in single precision."""
    return 1.0 / (1.0 + math.exp(-min(max(score, -30.0), 16.0)))


def logit(probability: float) -> float:
    """Log-odds of a probability, kept away from 0 and 1 by 1e-4."""
    p = min(max(probability, 1e-4), 1.0 - 1e-4)
    return math.log(p / (1.0 - p))
