"""Routing between a weak and a strong model: PGR curve, APGR and CPT as RouteLLM defines them.

Source of every definition: RouteLLM (arXiv 2406.18665) and its code, lm-sys/RouteLLM
``routellm/evals``: thresholds are the quantiles of the predicted win rate (11 for 10 bins); the
curve is accuracy over the share of strong calls; APGR is the area between the curve and the weak
model's accuracy over the area between the strong's and the weak's, by the trapezoid rule; CPT(x)
is the share of strong calls at which the curve reaches x of the gap, interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy over the share of calls that go to the strong model.

    Attributes:
        share: shape (k,), rising from 0 to 1.
        quality: shape (k,), mean score of the routed answers.
        threshold: shape (k,), the win rate from which calls go to the strong model.
        weak: mean score of the weak model alone.
        strong: mean score of the strong model alone.
    """

    share: Floats
    quality: Floats
    threshold: Floats
    weak: float
    strong: float

    @property
    def pgr(self) -> Floats:
        """Share of the performance gap recovered, at each point."""
        return (self.quality - self.weak) / (self.strong - self.weak)

    def recovered(self, quality: float) -> float:
        """Return the share of the performance gap that a mean score recovers."""
        return (quality - self.weak) / (self.strong - self.weak)

    @property
    def apgr(self) -> float:
        """Average performance gap recovered; random routing scores 0.5."""
        width = self.share[-1] - self.share[0]
        area = float(np.trapezoid(self.quality, self.share))
        return (area - self.weak * width) / ((self.strong - self.weak) * width)

    def cpt(self, target: float) -> float:
        """Return the call-performance threshold: least share of strong calls to recover ``target``.

        ``target`` is a share of the gap; between the points of the curve it is interpolated.
        """
        pgr = self.pgr
        reached = int(np.argmax(pgr >= target))
        if reached == 0:
            return float(self.share[0]) if pgr[0] >= target else 1.0
        low, high = pgr[reached - 1], pgr[reached]
        part = (target - low) / (high - low)
        return float(
            self.share[reached - 1] + part * (self.share[reached] - self.share[reached - 1])
        )


def pair_curve(win_rate: Floats, weak: Floats, strong: Floats, *, bins: int = 10) -> Curve:
    """Compute the curve of thresholds on ``win_rate``, the strong model's predicted advantage.

    Args:
        win_rate: shape (n,); any scale, only its order counts.
        weak: shape (n,), score of the weak model's answers.
        strong: shape (n,), score of the strong model's answers.
        bins: quantile bins between thresholds; RouteLLM uses 10.

    Raises:
        DataError: the strong model is not better on average, so there is no gap to recover.
    """
    weak_mean, strong_mean = float(weak.mean()), float(strong.mean())
    if strong_mean <= weak_mean:
        raise DataError(
            f"the strong model scores {strong_mean:.3f} and the weak one {weak_mean:.3f}: there is "
            "no gap to recover; swap --weak and --strong, or choose another pair"
        )
    thresholds = np.unique(np.quantile(win_rate, np.linspace(0.0, 1.0, bins + 1)))
    share, quality = [1.0], [strong_mean]
    for i, threshold in enumerate(thresholds):
        last = i == len(thresholds) - 1
        chosen = win_rate > threshold if last else win_rate >= threshold
        share.append(float(chosen.mean()))
        quality.append(float(np.where(chosen, strong, weak).mean()))
    used = np.concatenate(([thresholds[0]], thresholds))
    order = np.argsort(share, kind="stable")
    return Curve(
        np.array(share)[order], np.array(quality)[order], used[order], weak_mean, strong_mean
    )


def quality_at(win_rate: Floats, weak: Floats, strong: Floats, share: float) -> float:
    """Return the mean score when the strong model answers exactly this share, by ``win_rate``.

    Unlike thresholds at quantiles it resolves the few questions that matter where most look
    alike; equal rates are taken in their order.
    """
    count = round(share * len(win_rate))
    chosen = np.zeros(len(win_rate), np.bool_)
    chosen[np.argsort(-win_rate, kind="stable")[:count]] = True
    return float(np.where(chosen, strong, weak).mean())


def oracle_win_rate(weak: Floats, strong: Floats, seed: int = 0) -> Floats:
    """Return the win rate of an oracle that knows the scores, ties broken at random."""
    noise = np.random.default_rng(seed).random(len(weak))
    return strong - weak + 1e-6 * noise


def length_win_rate(prompts: Sequence[str]) -> Floats:
    """Return the prompts' lengths as win rate: the baseline that every router must beat."""
    return np.array([len(prompt) for prompt in prompts], dtype=np.float64)
