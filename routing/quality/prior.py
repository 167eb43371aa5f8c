"""A model's prior before any of its answers were scored, and the quality model's interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ModelPrior:
    """The prior quality of a candidate, from the catalog.

    Attributes:
        name: the model's name; a trained head of this name is used when there is one.
        prior: expected share of good answers on typical traffic, in (0, 1).
        proxy: a model of the trained table whose head stands for this one.
    """

    name: str
    prior: float
    proxy: str | None = None


class QualityModel(Protocol):
    """Predicts how likely each model is to answer a prompt well."""

    def predict(
        self, prompt: str, models: Sequence[ModelPrior], *, fast: bool
    ) -> NDArray[np.float32]:
        """Return calibrated P(good answer) of each model.

        Args:
            prompt: the text that the models would receive.
            models: the candidates.
            fast: True for the real-time tier, False for the fuller one.

        Returns:
            shape (len(models),), float32, in (0, 1).
        """
        ...
