"""Likeness to remembered prompts: kernel regression on a fixed set of landmarks.

Two Gaussian kernels share the landmarks: one weighs mostly form, one mostly meaning.
Distances are additive over the two parts, so the second kernel is almost free.

Source: Nyström (subset of regressors) approximation of kernel ridge regression, Williams &
Seeger, NIPS 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.response import ResponseCurves

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Remembered prompts, and the kernels' scales.

    Attributes:
        points: shape (f + g, k), a landmark in each column: form and wording, then meaning.
        form: shape (k, f), form and wording alone; a view of ``points``.
        meaning: shape (k, g), the meaning alone; a view of ``points``.
        emphasis: for each kernel, the weight of a squared distance in meaning.
        width: for each kernel, the squared distance at which likeness is 1/e.
        scale: shape (kernels, f + g), weight of a product of two numbers in the logarithm of
            likeness.
        offset: shape (kernels, k), part of the landmarks' own lengths in it.
    """

    points: Floats
    form: Floats
    meaning: Floats
    emphasis: tuple[float, ...]
    width: tuple[float, ...]
    scale: Floats
    offset: Floats

    @staticmethod
    def at(
        form: Floats, meaning: Floats, emphasis: Sequence[float], width: Sequence[float]
    ) -> Landmarks:
        """Return landmarks at these points."""
        points = np.ascontiguousarray(np.concatenate((form.T, meaning.T)))
        split = form.shape[1]
        scale = np.empty((len(emphasis), len(points)), dtype=np.float32)
        for row, e, w in zip(scale, emphasis, width, strict=True):
            row[:split], row[split:] = 2.0 / w, 2.0 * e / w
        offset = (-0.5 * scale @ (points * points)).astype(np.float32)
        parts = (points, points[:split].T, points[split:].T)
        return Landmarks(*parts, tuple(emphasis), tuple(width), scale, offset)

    def likeness(self, dense: Floats) -> Floats:
        """Return the likeness of a prompt to every landmark under every kernel.

        Written for one pass over the landmarks, whatever the number of kernels: they are most of
        the memory that a real-time decision reads.

        Args:
            dense: shape (f + g or more,), of one prompt; the rest is ignored.

        Returns:
            shape (kernels * k,), float32, in (0, 1].
        """
        part = dense[: len(self.points)]
        near = (self.scale * part) @ self.points
        near += self.offset
        near -= (self.scale @ (part * part) * np.float32(0.5))[:, None]
        return np.exp(near, out=near).reshape(-1)


@dataclass(frozen=True, slots=True)
class KernelHeads:
    """One regression per model on likeness and on the pretrained factors.

    Attributes:
        landmarks: shared by all models.
        weights: shape (kernels * k, m).
        factor_weights: shape (factors, m).
        bias: shape (m,), the estimate far from every landmark, less the curves'.
        curves: on the factors; None where there are none.
    """

    landmarks: Landmarks
    weights: Floats
    factor_weights: Floats
    bias: Floats
    curves: ResponseCurves | None = None

    def estimate(self, dense: Floats, factors: Floats) -> Floats:
        """Return P(good) of every model before calibration, shape (m,)."""
        estimate = self.landmarks.likeness(dense) @ self.weights
        estimate += factors @ self.factor_weights
        estimate += self.bias
        if self.curves is not None:
            estimate += self.curves.estimate(factors)
        return estimate
