"""Regressions on likeness and pretrained factors: a menu of them, from which a stack chooses.

Targets are scores in [0, 1], not log-odds: so the difference of two models' estimates is itself
the regression of their gain. How much to smooth, and how far to lean on the pretrained pool,
differs between tables (few labels and much noise want more of both), so several members are
fitted and ``stack`` weighs them by what they predicted of questions they had not seen.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from routing.quality.encoder import Encoder
from routing.quality.kernel import KernelHeads, Landmarks
from routing.training.calibrate import base_rates, mean_scores

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

LANDMARKS: Final = 768
KERNELS: Final = ((0.1, 1.0), (1.2, 1.0))
NOISES: Final = (2.0, 15.0, 100.0)
FACTOR_SCALE: Final = 3.0
POOL_SLOPE: Final = 0.5
POOL_QUESTIONS: Final = 300.0
MEMORY_SLOPE: Final = 0.8
MEMORY_QUESTIONS: Final = 100.0
JITTER: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Member:
    """One regression of the menu: deviations from the base rate.

    Attributes:
        weights: shape (kernels * landmarks, m).
        factor_weights: shape (factors, m).
    """

    weights: Floats
    factor_weights: Floats

    def estimate(self, like: Floats, factors: Floats) -> Floats:
        """Deviations from the base rate, shape (n, m)."""
        found = like @ self.weights + factors @ self.factor_weights
        return found.astype(np.float32, copy=False)


def choose_landmarks(
    dense: Floats,
    encoder: Encoder,
    seed: int,
    *,
    count: int = LANDMARKS,
    kernels: Sequence[tuple[float, float]] = KERNELS,
) -> Landmarks:
    """Landmarks at random among the training prompts.

    The widths are multiples of what each part contributes: about one unit of squared distance
    for each standardised feature, ``MEANING_NORM`` squared (81) for meaning.
    """
    n_form, n_kernel = encoder.n_form, encoder.n_kernel
    rows = np.random.default_rng(seed).permutation(len(dense))[:count]
    half = dense[rows].astype(np.float16).astype(np.float32)
    return Landmarks.at(
        form=half[:, :n_form].copy(),
        meaning=half[:, n_form:n_kernel].copy(),
        emphasis=[emphasis for emphasis, _ in kernels],
        width=[factor * (n_form + 81.0 * emphasis) for emphasis, factor in kernels],
    )


def likeness(landmarks: Landmarks, dense: Floats) -> Floats:
    """``Landmarks.likeness`` of many prompts, shape (n, kernels * k)."""
    split = landmarks.form.shape[1]
    form = _distances(dense[:, :split], landmarks.form)
    meaning = _distances(dense[:, split : split + landmarks.meaning.shape[1]], landmarks.meaning)
    parts = [
        np.exp((form + emphasis * meaning) * (-1.0 / width))
        for emphasis, width in zip(landmarks.emphasis, landmarks.width, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _distances(a: Floats, b: Floats) -> Floats:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None]
    return np.maximum(squares - 2.0 * a @ b.T, 0.0)


def between(landmarks: Landmarks) -> Floats:
    """Likeness of the landmarks to each other, shape (k, kernels * k)."""
    return likeness(landmarks, np.concatenate((landmarks.form, landmarks.meaning), axis=1))


def blocks(score: Doubles) -> list[tuple[Rows, Rows]]:
    """Models that answered the same questions, with those questions: one solve for each block."""
    found: dict[bytes, list[int]] = {}
    answered = ~np.isnan(score)
    for column in range(score.shape[1]):
        found.setdefault(answered[:, column].tobytes(), []).append(column)
    return [(np.flatnonzero(answered[:, c[0]]), np.array(c)) for c in found.values()]


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal equations of a regression on one kernel's likeness and on extra linear features.

    Building them is most of the work; solving them for another smoothing costs little.

    Attributes:
        system: shape (k + e, k + e).
        answer: shape (k + e, m).
        own: shape (k, k), likeness of the landmarks to each other.
    """

    system: Doubles
    answer: Doubles
    own: Doubles

    @staticmethod
    def of(seen: Floats, own: Doubles, extra: Doubles, target: Doubles) -> Normal:
        """The equations of n prompts.

        Args:
            seen: shape (n, k), likeness of the training prompts to the landmarks.
            own: shape (k, k).
            extra: shape (n, e), linear features beside the kernel; e may be 0.
            target: shape (n, m).
        """
        both = np.concatenate((seen, extra), axis=1, dtype=np.float64)
        return Normal(both.T @ both, both.T @ target, own)

    def solve(
        self, noise: float, ridge: Doubles, columns: slice = slice(None)
    ) -> tuple[Doubles, Doubles]:
        """Ridge weights of the kernel and of the extra features.

        Args:
            noise: variance of the outcomes in units of the kernel's.
            ridge: of the extra features that take part, the leading ones, shape (e,).
            columns: of the targets.
        """
        k = len(self.own)
        size = k + len(ridge)
        system = self.system[:size, :size].copy()
        system[:k, :k] += noise * self.own
        system[np.diag_indices(k)] += JITTER
        rest = np.arange(k, size)
        system[rest, rest] += ridge
        answer = self.answer[:size, columns]
        solved: Doubles = solve(system, answer, assume_a="pos", overwrite_a=True)
        return solved[:k], solved[k:]


def pools_word(score: Doubles, n_factors: int, leading: Sequence[int]) -> tuple[Doubles, Doubles]:
    """What the pool says of a model before its labels do: weights of the factors, and a ridge.

    What is easy for the pool is easy for any model, most so for one that is right half the time:
    the slope of Rasch's model, p (1 - p), held for all 24 models of MMLU-Pro within a fifth. Each
    model's own weights are drawn to it as if ``POOL_QUESTIONS`` questions had confirmed it
    (``MEMORY_QUESTIONS`` for what the pool remembers of single prompts, which tells models apart).

    Args:
        score: shape (n, m), NaN where a model did not answer.
        n_factors: smooth ones, and as many remembered ones behind them.
        leading: ``Factors.leading``.

    Returns:
        shape (n_factors, m), and shape (n_factors,).
    """
    rates, n_smooth = base_rates(score), n_factors // 2
    word = np.zeros((n_factors, score.shape[1]))
    easy = np.array(leading, dtype=np.int64)
    word[easy] = POOL_SLOPE * rates * (1.0 - rates) / max(len(leading), 1)
    word[n_smooth + easy] = MEMORY_SLOPE * rates * (1.0 - rates)
    return word, np.repeat([POOL_QUESTIONS, MEMORY_QUESTIONS], n_smooth)


def fit_members(
    landmarks: Landmarks,
    like: Floats,
    factors: Floats,
    score: Doubles,
    leading: Sequence[int],
) -> list[Member]:
    """The menu: every noise with and without factors, factors alone, and the pool's word alone.

    The last takes nothing from the labels but base rates (``pools_word``). What the pool remembers
    counts only where it remembers some of the training prompts.

    Args:
        landmarks: shared by all models.
        like: shape (n, kernels * k), from ``likeness``.
        factors: shape (n, f); f may be 0.
        score: shape (n, m), NaN where a model did not answer.
        leading: ``Factors.leading``.
    """
    k, count, m = len(landmarks.form), len(landmarks.width), score.shape[1]
    n_factors = factors.shape[1]
    own = between(landmarks).astype(np.float64)
    base = mean_scores(score)
    word, ridge = pools_word(score, n_factors, leading)
    settings = [(noise, used) for used in (0, n_factors) for noise in NOISES][
        : 6 if n_factors else 3
    ]
    weights = np.zeros((len(settings), count * k, m))
    linear = np.zeros((len(settings), n_factors, m))
    alone = np.zeros_like(word)
    for rows, columns in blocks(score):
        if not len(rows):
            continue
        target = score[np.ix_(rows, columns)] - base[columns]
        word[np.ix_(~factors[rows].any(axis=0), columns)] = 0.0
        extra = (factors[rows] - factors[rows].mean(axis=0)).astype(np.float64)
        untold = target - extra @ word[:, columns]
        if n_factors:
            system = extra.T @ extra + np.diag(ridge)
            alone[:, columns] = word[:, columns] + np.linalg.solve(system, extra.T @ untold)
        both, n = np.concatenate((target, untold), axis=1), len(columns)
        for part in (slice(i * k, (i + 1) * k) for i in range(count)):
            normal = Normal.of(like[rows, part], own[:, part], extra, both)
            for i, (noise, used) in enumerate(settings):
                chosen = slice(n, 2 * n) if used else slice(n)
                solved, rest = normal.solve(noise, ridge[:used], chosen)
                weights[i][part, columns] = solved / count
                linear[i][:used, columns] += (rest + word[:used, columns]) / count
    members = [_member(w, f) for w, f in zip(weights, linear, strict=True)]
    if n_factors:
        nothing = np.zeros_like(weights[0])
        members += [_member(nothing, alone), _member(nothing, word)]
    return members


def _member(weights: Doubles, linear: Doubles) -> Member:
    return Member(weights.astype(np.float32), linear.astype(np.float32))


def combine(
    landmarks: Landmarks,
    members: Sequence[Member],
    share: Doubles,
    factors: Floats,
    score: Doubles,
    base: Doubles,
) -> KernelHeads:
    """One set of weights from a weighed menu; base rates and mean factors go into the bias."""
    weights = sum((w * member.weights for w, member in zip(share, members, strict=True)), start=0.0)
    linear = sum(
        (w * member.factor_weights for w, member in zip(share, members, strict=True)), start=0.0
    )
    answered = ~np.isnan(score)
    usual = np.stack([factors[answered[:, c]].mean(axis=0) for c in range(score.shape[1])], axis=1)
    bias = base - (usual * linear).sum(axis=0)
    return KernelHeads(
        landmarks,
        np.asarray(weights, dtype=np.float32),
        np.asarray(linear, dtype=np.float32),
        bias.astype(np.float32),
    )
