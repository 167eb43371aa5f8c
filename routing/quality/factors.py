"""What a pool of models, scored on many questions before, says of a new prompt.

The pool's outcomes were regressed on the features; the leading directions of the predicted
score table are the factors (the first is how easy a prompt is, the others tell models apart).
A router trained on few outcomes of its own leans on them: transfer between models. Of a prompt
the pool was asked itself, its memory knows more.
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
    """Raw features in units of their spread, cut at ``LIMIT``; shape as ``raw``, float32."""
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
        models: of each table, the models that were asked.
        memory: of the prompts the pool was asked; its numbers follow the smooth factors.
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
        """How many factors there are, smooth and remembered."""
        return len(self.bias) + self.memory.width

    @property
    def smooth(self) -> int:
        """How many of the factors are smooth; what is remembered of a prompt follows them."""
        return len(self.bias)

    def of(self, raw: Floats, prompt: str) -> Floats:
        """Factors of one prompt, shape (width,), each about 1 in size over the pool's prompts."""
        dense = standardise(raw, self.mean, self.inverse_std)
        smooth = self.landmarks.likeness(dense) @ self.weights + self.bias
        return np.concatenate((smooth, self.memory.of(prompt)))
