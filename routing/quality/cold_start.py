"""A model nobody has scored yet: its prior and the prompt's difficulty, combined.

Item response theory with one ability per model (Rasch 1960): the log-odds of a good answer are
ability minus difficulty. Difficulty comes from the pretrained pool of models; ability is what
makes the average over typical prompts equal the prior. So a hard prompt costs a model with a
modest prior more than it costs a strong one, whose answers stay near the top of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.encoder import Encoded

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Difficulty of a prompt, and what it means for a model of known average.

    Attributes:
        weights: shape (d + k,), difficulty in log-odds from ``Encoded.dense`` and ``factors``.
        bias: added to the difficulty.
        grid_prior: shape (g,), rising: priors for which the ability is tabled.
        grid_ability: shape (g,), the ability of each, in log-odds.
    """

    weights: Floats
    bias: float
    grid_prior: Floats
    grid_ability: Floats

    def contributions(self, encoded: Encoded) -> Floats:
        """What each dense feature, then each factor, adds to the difficulty, shape (d + k,)."""
        return np.concatenate((encoded.dense, encoded.factors)) * self.weights

    def difficulty(self, encoded: Encoded) -> float:
        """Difficulty of an encoded prompt in log-odds; 0 is typical, higher is harder."""
        return float(self.contributions(encoded).sum()) + self.bias

    def score(self, prior: float, difficulty: float) -> float:
        """Log-odds of a good answer from a model with this prior."""
        ability = np.interp(prior, self.grid_prior, self.grid_ability)
        return float(ability) - difficulty
