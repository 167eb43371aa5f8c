"""One head per trained model: several estimates, averaged, then calibrated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoded
from routing.quality.forest import Forest
from routing.quality.kernel import KernelHeads

Floats = NDArray[np.float32]


def sigmoid(score: float) -> float:
    """Return the logistic function, without overflow and inside (0, 1) in single precision."""
    return 1.0 / (1.0 + math.exp(-min(max(score, -30.0), 16.0)))


def logit(probability: float) -> float:
    """Return the log-odds of a probability, kept away from 0 and 1 by 1e-4."""
    p = min(max(probability, 1e-4), 1.0 - 1e-4)
    return math.log(p / (1.0 - p))


@dataclass(frozen=True, slots=True)
class GramHeads:
    """One sparse linear regression per model on the tf-idf of character n-grams.

    Attributes:
        idf: shape (buckets,), float16; 0 for a bucket met in fewer than two training prompts.
        weights: shape (buckets, m), float16.
        bias: shape (m,).
    """

    idf: NDArray[np.float16]
    weights: NDArray[np.float16]
    bias: Floats

    def estimate(self, encoded: Encoded) -> Floats:
        """Return P(good) of every model before calibration, shape (m,)."""
        values = encoded.gram_values * self.idf[encoded.gram_ids].astype(np.float32)
        length = float(values @ values) ** 0.5
        if length == 0.0:
            return self.bias
        return values @ self.weights[encoded.gram_ids].astype(np.float32) / length + self.bias


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibrates an averaged estimate: Platt scaling on log-odds.

    Attributes:
        slope: shape (m,).
        shift: shape (m,).

    Source: Platt 1999, on the log-odds of the estimate as in Kull et al., AISTATS 2017.
    """

    slope: Floats
    shift: Floats

    def scores(self, estimate: Floats) -> Floats:
        """Return calibrated log-odds, shape (m,)."""
        p = np.minimum(np.maximum(estimate, np.float32(0.01)), np.float32(0.99))
        return np.log(p / (1.0 - p)) * self.slope + self.shift


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of all trained models.

    Attributes:
        models: name of each head.
        base_rate: shape (m,), share of good answers among the training outcomes.
        kernel: used by both tiers.
        forest: only the fuller tier; None where there were too few outcomes.
        grams: only the fuller tier; None where there were too few outcomes.
        exact: only the fuller tier, a kernel that remembers all training prompts; None where
            there were too few outcomes.
        weights: of the deviations of kernel, forest, grams and exact from the base rate in the
            fuller tier. They may add up to more than 1: an average of estimates varies too
            little. They are the same for all models, which keeps the order of their gains.
        fast: calibration of the real-time tier.
        full: calibration of the fuller tier.
        rows: position of each model's head.
        anchors: log-odds of each base rate.
    """

    models: tuple[str, ...]
    base_rate: Floats
    kernel: KernelHeads
    forest: Forest | None
    grams: GramHeads | None
    exact: KernelHeads | None
    weights: tuple[float, float, float, float]
    fast: Calibration
    full: Calibration
    rows: Mapping[str, int] = field(init=False, repr=False)
    anchors: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute the tables that every prediction reads."""
        object.__setattr__(self, "rows", {name: row for row, name in enumerate(self.models)})
        object.__setattr__(self, "anchors", tuple(map(logit, self.base_rate.tolist())))

    def scores(self, encoded: Encoded, *, fast: bool) -> Floats:
        """Return calibrated log-odds of a good answer from every head, shape (m,), float32."""
        estimate = self.kernel.estimate(encoded.dense, encoded.factors)
        if fast:
            return self.fast.scores(estimate)
        rest = np.float32(1.0 - sum(self.weights))
        estimate = self.base_rate * rest + estimate * np.float32(self.weights[0])
        if self.forest is not None:
            features = np.concatenate((encoded.dense, encoded.factors))
            estimate += self.weights[1] * self.forest.estimate(features)
        if self.grams is not None:
            estimate += self.weights[2] * self.grams.estimate(encoded)
        if self.exact is not None:
            estimate += self.weights[3] * self.exact.estimate(encoded.dense, encoded.factors)
        return self.full.scores(estimate.astype(np.float32))
