"""Factors: predictions for a new prompt from a pool of models scored on many questions.

The pool's outcomes were regressed on the features; the leading directions of the predicted
score table are the factors (the first is how easy a prompt is, the others tell models apart).
A router trained on few outcomes of its own uses them: transfer between models. For a prompt that
the pool itself was scored on, its memory adds those results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.kernel import Landmarks
from routing.quality.memory import Memory

Floats = NDArray[np.float32]
LIMIT = 4.0


def standardise(raw: Floats, mean: Floats, inverse_std: Floats) -> Floats:
    """Return raw features in units of their spread, clipped at ``LIMIT``, float32."""
    dense = np.subtract(raw, mean, dtype=np.float32)
    dense *= inverse_std
    np.minimum(dense, LIMIT, out=dense)
    return np.maximum(dense, -LIMIT, out=dense)


@dataclass(frozen=True, slots=True)
class Factors:
    """Kernel regression from raw features to the factors, in the pool's own units, and a memory.

    Attributes:
        mean: shape (d,), of the pool's prompts.
        inverse_std: shape (d,).
        landmarks: some of the pool's prompts, one kernel.
        weights: shape (landmarks, k).
        bias: shape (k,), so that the mean over the pool's prompts is 0.
        leading: position of the first factor of each table of the pool: how easy a prompt is.
        models: of each table, the models that were scored.
        memory: of the prompts the pool was scored on; its factors follow the smooth ones.
    """

    mean: Floats
    inverse_std: Floats
    landmarks: Landmarks
    weights: Floats
    bias: Floats
    leading: tuple[int, ...]
    models: tuple[tuple[str, ...], ...]
    memory: Memory

    @property
    def width(self) -> int:
        """Number of factors, smooth and remembered."""
        return len(self.bias) + self.memory.width

    @property
    def smooth(self) -> int:
        """Number of smooth factors; the remembered ones follow them."""
        return len(self.bias)

    def of(self, raw: Floats, prompt: str) -> Floats:
        """Return the factors of one prompt, shape (width,), of about unit size over the pool."""
        dense = standardise(raw, self.mean, self.inverse_std)
        smooth = self.landmarks.likeness(dense) @ self.weights + self.bias
        return np.concatenate((smooth, self.memory.of(prompt)))
