"""Learned quality for inputs that are rows of numbers: a table's columns, a picture's features.

One calibrated success head per model over shared trees, as for prompts (``learned.py``), small
enough for card transactions: some microseconds, and none where the choice cannot change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from routing.quality.boosted_pairs import BoostedPairs

Floats = NDArray[np.float32]
RowPredictor: TypeAlias = Callable[[Floats], list[float]]
MAX_ROWS = 64
_HALF = 0.5
_LOW, _HIGH = np.float32(1e-4), np.float32(1.0 - 1e-4)


@dataclass(frozen=True, slots=True)
class FeatureQuality:
    """Predicts P(good answer) of each trained model. Immutable; safe to share between threads.

    Attributes:
        models: names of the heads.
        names: of the features, in order.
        base_rate: shape (m,), mean score of each model.
        trees: estimates of all heads. Each part was scaled by its slope on rows that it was not
            fitted on, which calibrates it.
        centre: shape (d,), a usual row.
        inverse_scale: shape (d,), one over the usual distance from it.
        usual: the distance that one training row in a hundred exceeds.
        least: shape (m, m), P(good) of the first over that of the second model, as low as it
            gets but for one training row in a thousand.
        most: the same, as high as it gets.
        origin: its training data, for people.
        after: by model, gains of every model over it once its answer is there: from a row and its
            confidence in that answer, shape (n, d + 1), to (n, m). Only of models whose confidence
            was recorded.
    """

    models: tuple[str, ...]
    names: tuple[str, ...]
    base_rate: Floats
    trees: BoostedPairs
    centre: Floats
    inverse_scale: Floats
    usual: float
    least: Floats
    most: Floats
    origin: str = ""
    after: Mapping[str, BoostedPairs] = field(default_factory=dict[str, BoostedPairs])

    def predict(self, rows: Floats) -> Floats:
        """Return calibrated P(good answer): from shape (n, d) to (n, m).

        Far from the training rows it tends to each model's base rate.
        """
        p_good = self.trees.estimate(rows)
        trust = self.trust(rows)
        if trust is not None:
            p_good = self.base_rate + trust[:, None] * (p_good - self.base_rate)
        return np.clip(p_good, _LOW, _HIGH, dtype=np.float32)

    def of_request(self, rows: Floats) -> list[float]:
        """Return the expected share of good answers of each model over a request's rows.

        Of many rows, ``MAX_ROWS`` evenly spaced ones are read.
        """
        if len(rows) > MAX_ROWS:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_ROWS).astype(np.int64)]
        p_good = self.predict(rows)
        return (p_good[0] if len(p_good) == 1 else p_good.mean(axis=0)).tolist()

    def gain_after(self, first: str, better: str, rows: Floats, confidence: Floats) -> Floats:
        """Return the expected gain of a second answer, given the first one's confidence.

        Args:
            first: the model that answered; one of ``after``.
            better: the model that would answer again.
            rows: shape (n, d).
            confidence: shape (n,), of ``first`` in each answer.

        Returns:
            shape (n,), P(better good) - P(first good); NaN for rows far from the
            training rows.
        """
        inputs = np.column_stack((rows, confidence)).astype(np.float32, copy=False)
        gain = self.after[first].estimate(inputs)[:, self.models.index(better)]
        trust = self.trust(rows)
        return gain if trust is None else np.where(trust < 1.0, np.float32(np.nan), gain)

    def trust(self, rows: Floats) -> Floats | None:
        """Return 1 for usual rows, falling with the square of the distance beyond; shape (n,).

        None where all rows are usual.

        The distance is the largest, over features, in units of what is usual there. A row with
        values that are no numbers is not trusted at all.
        """
        distance = np.abs((rows - self.centre) * self.inverse_scale).max(axis=1)
        if distance.max() <= self.usual:
            return None
        distance = np.nan_to_num(distance, nan=np.inf, posinf=np.inf)
        return ((self.usual / np.maximum(distance, self.usual)) ** 2).astype(np.float32)

    def settled(self, models: Sequence[str], target: float) -> bool:
        """Return whether every usual row leads to the same choice, so that none need be read.

        Args:
            models: with heads; the cheapest first.
            target: share of the best one's quality that is good enough.
        """
        if self.constant:
            return True
        rows = [self.models.index(name) for name in models]
        first, others = rows[0], rows[1:]
        always = self.least[first, others].min(initial=np.inf) >= target
        never = len(others) == 1 and self.most[first, others[0]] < target
        return bool(always or never)

    @property
    def constant(self) -> bool:
        """Whether the features carry no information, so that every row has the same prediction."""
        return not len(self.trees.feature)


def row_predictor(quality: FeatureQuality) -> RowPredictor:
    """Return ``FeatureQuality.predict`` for one row, shape (d,), in a third of its time.

    It makes as few numpy calls as possible, since every request pays for them: the bounds of usual
    rows are compared along with the trees' thresholds, and one more column of weights counts the
    bounds exceeded. Rows that are not usual are predicted by ``FeatureQuality.predict``.
    """
    trees, d = quality.trees, len(quality.centre)
    t, m = len(trees.feature) // 3, len(trees.bias)
    reach = quality.usual / quality.inverse_scale
    index = np.concatenate((trees.feature, np.arange(d), np.arange(d))).astype(np.intp)
    threshold = np.concatenate(
        (trees.threshold, quality.centre + reach, quality.centre - reach)
    ).astype(np.float32)
    weights = np.zeros((5 * t + 2 * d, m + 1), np.float32)
    weights[: 2 * t, :m] = trees.weights[: 2 * t]
    weights[3 * t + 2 * d :, :m] = trees.weights[2 * t :]
    weights[3 * t : 3 * t + d, m] = 1.0  # above the upper bound
    weights[3 * t + d : 3 * t + 2 * d, m] = -1.0  # above the lower bound, as usual rows are
    bias = np.append(trees.bias, np.float32(d))

    def predict(row: Floats) -> list[float]:
        yes = row.take(index) > threshold
        both = yes[t : 3 * t].reshape(2, t) & yes[:t]
        estimates = np.concatenate((yes, both.ravel())) @ weights + bias
        *p_good, unusual = estimates.tolist()
        if unusual > _HALF:
            return quality.predict(row[None])[0].tolist()
        return [min(max(p, 1e-4), 1.0 - 1e-4) for p in p_good]

    return predict
