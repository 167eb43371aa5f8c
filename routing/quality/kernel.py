"""Likeness to remembered prompts: kernel regression on a fixed set of landmarks.

Two Gaussian kernels share the landmarks: one looks at form, one also at meaning, so that the
first still works on subjects the training never saw. Distances are additive over the two parts,
so the second kernel is almost free.

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
        form_squares: shape (k,), squared length of each row of ``form``.
        meaning_squares: shape (k,), squared length of each row of ``meaning``.
        emphasis: for each kernel, the weight of a squared distance in meaning.
        width: for each kernel, the squared distance at which likeness is 1/e.
    """

    form: Floats
    meaning: Floats
    form_squares: Floats
    meaning_squares: Floats
    emphasis: tuple[float, ...]
    width: tuple[float, ...]

    @staticmethod
    def at(
        form: Floats, meaning: Floats, emphasis: Sequence[float], width: Sequence[float]
    ) -> Landmarks:
        """Landmarks at these points."""
        return Landmarks(
            form,
            meaning,
            np.einsum("ij,ij->i", form, form),
            np.einsum("ij,ij->i", meaning, meaning),
            tuple(emphasis),
            tuple(width),
        )

    def likeness(self, dense: Floats) -> Floats:
        """Likeness of a prompt to every landmark under every kernel.

        Args:
            dense: shape (f + g or more,), of one prompt; the rest is not looked at.

        Returns:
            shape (kernels * k,), float32, in (0, 1].
        """
        split = self.form.shape[1]
        a, b = dense[:split], dense[split : split + self.meaning.shape[1]]
        form = self.form_squares - 2.0 * (self.form @ a) + a @ a
        meaning = self.meaning_squares - 2.0 * (self.meaning @ b) + b @ b
        parts = [
            np.exp((form + emphasis * meaning) * (-1.0 / width))
            for emphasis, width in zip(self.emphasis, self.width, strict=True)
        ]
        return np.concatenate(parts)


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
