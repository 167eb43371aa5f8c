"""Regressions on likeness and pretrained factors: a menu of them, from which a stack chooses.

Targets are scores in [0, 1], not log-odds: so the difference of two models' estimates is itself
the regression of their gain. How much to smooth, and how far to lean on the pretrained pool,
differs between tables (few labels and much noise need more of both), so several members are
fitted and ``stack`` weighs them by their predictions for questions they were not fitted on.
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
from routing.training.calibrate import mean_scores
from routing.training.response import Curve, fit_curves, prior_slopes, response_curves

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

LANDMARKS: Final = 768
KERNELS: Final = ((0.1, 1.0), (1.2, 1.0))
NOISES: Final = (2.0, 15.0, 100.0)
FACTOR_SCALE: Final = 3.0
JITTER: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Member:
    """One regression of the menu: deviations from the base rate.

    Attributes:
        weights: shape (kernels * landmarks, m).
        factor_weights: shape (factors, m).
        curve_weights: shape (curves,).
        bias: shape (m,), makes the mean deviation over the questions that a model answered 0,
            where models answered different ones.
    """

    weights: Floats
    factor_weights: Floats
    curve_weights: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Menu:
    """Regressions to choose from, and the curves that some of them start from.

    Attributes:
        members: at least one.
        curves: of ``fit_curves``; none without factors.
    """

    members: tuple[Member, ...]
    curves: tuple[Curve, ...]

    def estimates(self, like: Floats, factors: Floats) -> list[Floats]:
        """Return deviations from the base rate by each member, shape (n, m) each.

        Args:
            like: shape (n, kernels * landmarks), from ``likeness``.
            factors: shape (n, f), less their usual values.
        """
        curves = [curve.estimate(factors) for curve in self.curves]
        estimates: list[Floats] = []
        for member in self.members:
            values = like @ member.weights + factors @ member.factor_weights + member.bias
            for weight, curve in zip(member.curve_weights, curves, strict=True):
                values += weight * curve
            estimates.append(values.astype(np.float32, copy=False))
        return estimates


def choose_landmarks(
    dense: Floats,
    encoder: Encoder,
    seed: int,
    *,
    count: int = LANDMARKS,
    kernels: Sequence[tuple[float, float]] = KERNELS,
) -> Landmarks:
    """Draw landmarks at random among the training prompts.

    The widths are multiples of each part's contribution: about one unit of squared distance
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
    """Return ``Landmarks.likeness`` of many prompts, shape (n, kernels * k)."""
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
    """Return the likeness of the landmarks to each other, shape (k, kernels * k)."""
    return likeness(landmarks, np.concatenate((landmarks.form, landmarks.meaning), axis=1))


def blocks(score: Doubles) -> list[tuple[Rows, Rows]]:
    """Group models that answered the same questions, with those questions: one solve a block."""
    columns_by_mask: dict[bytes, list[int]] = {}
    answered = ~np.isnan(score)
    for column in range(score.shape[1]):
        columns_by_mask.setdefault(answered[:, column].tobytes(), []).append(column)
    return [(np.flatnonzero(answered[:, c[0]]), np.array(c)) for c in columns_by_mask.values()]


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
    def of(like: Floats, own: Doubles, extra: Doubles, target: Doubles) -> Normal:
        """Build the equations of n prompts.

        Args:
            like: shape (n, k), likeness of the training prompts to the landmarks.
            own: shape (k, k).
            extra: shape (n, e), linear features beside the kernel; e may be 0.
            target: shape (n, m).
        """
        both = np.concatenate((like, extra), axis=1, dtype=np.float64)
        return Normal(both.T @ both, both.T @ target, own)

    def solve(
        self, noise: float, ridge: Doubles, columns: slice = slice(None)
    ) -> tuple[Doubles, Doubles]:
        """Solve for the ridge weights of the kernel and of the extra features.

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


def fit_menu(
    landmarks: Landmarks,
    like: Floats,
    factors: Floats,
    score: Doubles,
    leading: Sequence[int],
) -> Menu:
    """Fit the menu: each noise with and without factors, and the curves of ``fit_curves`` alone.

    Members with factors start from the pool's curve, and regress its residual on likeness and
    factors. The pool's memory counts only where it remembers some of the training prompts.

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
    centred = (factors - factors.mean(axis=0)).astype(np.float64)
    _, ridge = prior_slopes(n_factors, leading)
    settings = [(noise, used) for used in (0, n_factors) for noise in NOISES][
        : 6 if n_factors else 3
    ]
    weights = np.zeros((len(settings), count * k, m))
    linear = np.zeros((len(settings), n_factors, m))
    bias = np.zeros((len(settings), m))
    curves = fit_curves(centred, score, leading) if n_factors else ()
    for rows, columns in blocks(score):
        if not len(rows):
            continue
        target = score[np.ix_(rows, columns)] - base[columns]
        remainder, n = target, len(columns)
        if curves:
            remainder = target - curves[0].estimate(centred[rows])[:, columns]
        both = np.concatenate((target, remainder), axis=1)
        centre = centred[rows].mean(axis=0)
        extra = centred[rows] - centre
        for part in (slice(i * k, (i + 1) * k) for i in range(count)):
            normal = Normal.of(like[rows, part], own[:, part], extra, both)
            for i, (noise, used) in enumerate(settings):
                chosen = slice(n, 2 * n) if used else slice(n)
                solved, rest = normal.solve(noise, ridge[:used], chosen)
                weights[i][part, columns] = solved / count
                linear[i][:used, columns] += rest / count
        bias[:, columns] = -(centre @ linear)[:, columns]
    pools, alone = np.eye(2) if curves else (np.zeros(0), np.zeros(0))
    none = np.zeros_like(pools)
    members = [
        _member(w, f, pools if used else none, b)
        for w, f, b, (_, used) in zip(weights, linear, bias, settings, strict=True)
    ]
    if curves:
        w, f, b = (np.zeros_like(part[0]) for part in (weights, linear, bias))
        members += [_member(w, f, alone, b), _member(w, f, pools, b)]
    return Menu(tuple(members), curves)


def _member(weights: Doubles, linear: Doubles, curves: Doubles, bias: Doubles) -> Member:
    return Member(*(part.astype(np.float32) for part in (weights, linear, curves, bias)))


def combine(
    landmarks: Landmarks, menu: Menu, share: Doubles, usual: Floats, base: Doubles
) -> KernelHeads:
    """Combine a weighted menu into one set of weights, for factors that are not centred.

    Args:
        landmarks: of the menu.
        menu: from ``fit_menu``.
        share: of each member, shape (members,).
        usual: the mean that was subtracted from the factors, shape (f,).
        base: shape (m,), the rate that the deviations are relative to.
    """

    def mixed(parts: Sequence[Floats]) -> Floats:
        return np.einsum("i,i...->...", share, np.stack(parts)).astype(np.float32)

    linear = mixed([member.factor_weights for member in menu.members])
    shares = mixed([member.curve_weights for member in menu.members])
    bias = base - usual @ linear + mixed([member.bias for member in menu.members])
    for weight, curve in zip(shares, menu.curves, strict=True):
        bias -= weight * curve.level
    return KernelHeads(
        landmarks,
        mixed([member.weights for member in menu.members]),
        linear,
        bias.astype(np.float32),
        response_curves(menu.curves, shares, usual) if menu.curves else None,
    )
