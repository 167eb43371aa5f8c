"""Thresholds on the gain, by the share of strong calls or by the share of the best quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Send a request to the strong model when its predicted gain reaches ``gain``.

    Attributes:
        gain: P(strong good) - P(weak good) from which the strong model answers.
        strong_share: share of these questions it then answers.
        quality: mean score of the answers.
        of_best: quality relative to always using the better model.
    """

    gain: float
    strong_share: float
    quality: float
    of_best: float


def for_share(gain: Floats, score: Floats, share: float) -> Threshold:
    """Return the threshold at which the strong model answers this share of the questions."""
    if not 0.0 <= share <= 1.0:
        raise DataError(f"--strong-share is {share}; give a number from 0 to 1")
    ordered = np.sort(gain)[::-1]
    count = round(share * len(gain))
    cut = float(ordered[count - 1]) if count else float(np.nextafter(ordered[0], np.inf))
    return _at(cut, gain, score)


def for_quality(gain: Floats, score: Floats, target: float) -> Threshold:
    """Return the threshold with fewest strong calls at ``target`` of the best model's quality.

    Args:
        gain: shape (n,), predicted.
        score: shape (n, 2), weak then strong, recorded.
        target: for example 0.95.

    Raises:
        DataError: the target is not in (0, 1].
    """
    if not 0.0 < target <= 1.0:
        raise DataError(f"--target-quality is {target}; give a number above 0, at most 1")
    order = np.argsort(-gain, kind="stable")
    lift = np.concatenate(([0.0], np.cumsum(score[order, 1] - score[order, 0])))
    quality = score[:, 0].mean() + lift / len(gain)
    needed = target * float(score.mean(axis=0).max())
    reached = np.flatnonzero(quality >= needed)
    count = int(reached[0]) if len(reached) else len(gain)
    return for_share(gain, score, count / len(gain))


def _at(cut: float, gain: Floats, score: Floats) -> Threshold:
    strong = gain >= cut
    quality = float(np.where(strong, score[:, 1], score[:, 0]).mean())
    best = float(score.mean(axis=0).max())
    return Threshold(cut, float(strong.mean()), quality, quality / best if best else 1.0)
