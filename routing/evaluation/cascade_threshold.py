"""Confidence thresholds of a cascade, with a bound on the quality that is lost.

From recorded triples (confidence of the cheap answer, whether it was right, whether the large model
was): at threshold t the cascade loses, against always asking the large model,

    loss(t) = (large right - cheap right) 1[confidence >= t],     in [-1, 1]

``bounded`` returns the lowest threshold for which "the expected loss is over ``most_loss``" is
rejected, and so is it for every threshold above: Learn then Test with fixed-sequence testing, from
always escalating (loss 0) downwards, so the bound holds with probability 1 - ``delta`` for fresh
requests like the recorded ones, whatever the distribution. The test is the betting one of
Waudby-Smith & Ramdas, tight where most losses are 0.

Sources: Angelopoulos, Bates, Candes, Jordan & Lei, Learn then Test (2021); Waudby-Smith & Ramdas,
JRSS B (2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import DataError, TooFewOutcomes

Floats = NDArray[np.float64]
_STEPS = 200
_ORDERS = 16
_MOST_BET = 0.9


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded answers; all of shape (n,).

    Attributes:
        confidence: of the cheap model in its own answer, in [0, 1].
        cheap: score of its answer, in [0, 1].
        large: score of the large model's answer, in [0, 1].
    """

    confidence: Floats
    cheap: Floats
    large: Floats

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TooFewOutcomes: there is no answer.
            DataError: lengths differ or a value is outside [0, 1].
        """
        if len({len(self.confidence), len(self.cheap), len(self.large)}) != 1:
            raise DataError("confidence, cheap and large must have the same length")
        if not len(self.confidence):
            raise TooFewOutcomes("no recorded answer")
        for name in ("confidence", "cheap", "large"):
            values: Floats = getattr(self, name)
            if not ((values >= 0.0) & (values <= 1.0)).all():
                raise DataError(f"{name} must be from 0 to 1")

    def take(self, rows: NDArray[np.int64]) -> Recorded:
        """Return the answers at these rows."""
        return Recorded(self.confidence[rows], self.cheap[rows], self.large[rows])


@dataclass(frozen=True, slots=True)
class ThresholdResult:
    """A threshold and its results on recorded answers.

    Attributes:
        threshold: confidence under which the large model answers too.
        escalated: share of answers that are escalated.
        quality: mean quality of the cascade.
        cheap: of the cheap model alone.
        large: of the large model alone.
    """

    threshold: float
    escalated: float
    quality: float
    cheap: float
    large: float


def at(recorded: Recorded, threshold: float) -> ThresholdResult:
    """Return the results of a threshold."""
    unsure = recorded.confidence < threshold
    quality = np.where(unsure, recorded.large, recorded.cheap)
    return ThresholdResult(
        threshold,
        float(unsure.mean()),
        float(quality.mean()),
        float(recorded.cheap.mean()),
        float(recorded.large.mean()),
    )


def for_share(recorded: Recorded, most_escalated: float) -> float:
    """Return the highest threshold that escalates at most this share."""
    ordered = np.sort(recorded.confidence)
    count = int(most_escalated * len(ordered) + 1e-9)
    return float(ordered[count]) if count < len(ordered) else float(np.nextafter(ordered[-1], 2.0))


def bounded(recorded: Recorded, most_loss: float, delta: float = 0.1, seed: int = 0) -> float:
    """Return the lowest threshold with expected loss <= ``most_loss`` at confidence 1 - delta.

    Args:
        recorded: answers that are like future ones.
        most_loss: quality that may be lost against always asking the large model, in (0, 1).
        delta: probability that the bound does not hold, in (0, 1).
        seed: of the orders in which answers are tested.

    Raises:
        DataError: ``most_loss`` or ``delta`` is not in (0, 1).
    """
    for name, value in (("most_loss", most_loss), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise DataError(f"{name} must be between 0 and 1, got {value}")
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(len(recorded.confidence)) for _ in range(_ORDERS)])
    steps = np.unique(np.quantile(recorded.confidence, np.linspace(0.0, 1.0, _STEPS)))[::-1]
    lowest = float(np.nextafter(steps[0], 2.0))
    for threshold in steps.tolist():
        loss = (recorded.large - recorded.cheap) * (recorded.confidence >= threshold)
        if _p_value(loss[orders], most_loss) > delta:
            break
        lowest = threshold
    return lowest


def _p_value(loss: Floats, most: float) -> float:
    """Return the p-value of "the mean loss is over ``most``": 1 / mean wealth of several gamblers.

    Args:
        loss: shape (orders, n), each row the same losses in another order, in [-1, 1]. Any one
            order is valid; their mean varies less.
        most: in (0, 1).
    """
    counts = np.arange(1.0, loss.shape[1] + 1.0)
    before: Floats = np.cumsum(loss, axis=1) - loss
    squares: Floats = np.cumsum(loss**2, axis=1) - loss**2
    better = most - before / counts
    bets = np.clip(better / ((0.25 + squares) / counts + better**2), 0.0, _MOST_BET)
    wealth = float(np.exp(np.log1p(bets * (most - loss)).sum(axis=1)).mean())
    return min(1.0 / wealth, 1.0)
