"""Likeness to remembered prompts: kernel regression on a fixed set of landmarks.

Two Gaussian kernels share the landmarks: one looks mostly at form, one mostly at meaning.
Distances are additive over the two parts, so the second kernel is almost free.

Source: Nyström (subset of regressors) approximation of kernel ridge regression, Williams &
Seeger, NIPS 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Remembered prompts, and how far is far.

    Attributes:
        form: shape (k, f), form and wording of each landmark.
        meaning: shape (k, g), meaning of each landmark.
        emphasis: for each kernel, the weight of a squared distance in meaning.
        width: for each kernel, the squared distance at which likeness is 1/e.
        mix: shape (kernels, 2), what an inner product of form, and of meaning, adds to the
            logarithm of likeness.
        offset: shape (kernels, k), what the landmarks' own lengths take from it.
    """

    form: Floats
    meaning: Floats
    emphasis: tuple[float, ...]
    width: tuple[float, ...]
    mix: Floats
    offset: Floats

    @staticmethod
    def at(
        form: Floats, meaning: Floats, emphasis: Sequence[float], width: Sequence[float]
    ) -> Landmarks:
        """Landmarks at these points."""
        kernels = list(zip(emphasis, width, strict=True))
        mix = np.array([(2.0 / w, 2.0 * e / w) for e, w in kernels], dtype=np.float32)
        lengths = np.stack([(points * points).sum(axis=1) for points in (form, meaning)])
        return Landmarks(form, meaning, tuple(emphasis), tuple(width), mix, -0.5 * mix @ lengths)

    def likeness(self, dense: Floats) -> Floats:
        """Likeness of a prompt to every landmark under every kernel.

        Written for few passes over memory: this is half of what a real-time decision costs.

        Args:
            dense: shape (f + g or more,), of one prompt; the rest is not looked at.

        Returns:
            shape (kernels * k,), float32, in (0, 1].
        """
        split = self.form.shape[1]
        a, b = dense[:split], dense[split : split + self.meaning.shape[1]]
        inner = np.empty((2, len(self.form)), dtype=np.float32)
        np.dot(self.form, a, out=inner[0])
        np.dot(self.meaning, b, out=inner[1])
        near = self.mix @ inner
        near += self.offset
        form, meaning = float(a @ a), float(b @ b)
        for row, emphasis, width in zip(near, self.emphasis, self.width, strict=True):
            row -= (form + emphasis * meaning) / width
        return np.exp(near, out=near).reshape(-1)


@dataclass(frozen=True, slots=True)
class KernelHeads:
    """One regression per model on likeness and on the pretrained factors.

    Attributes:
        landmarks: shared by all models.
        weights: shape (kernels * k, m).
        factor_weights: shape (factors, m).
        bias: shape (m,), the estimate far from every landmark.
    """

    landmarks: Landmarks
    weights: Floats
    factor_weights: Floats
    bias: Floats

    def estimate(self, dense: Floats, factors: Floats) -> Floats:
        """P(good) of every model before calibration, shape (m,)."""
        likeness = self.landmarks.likeness(dense)
        linear = factors @ self.factor_weights
        return (likeness @ self.weights + linear + self.bias).astype(np.float32, copy=False)
