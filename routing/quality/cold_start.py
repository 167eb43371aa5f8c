"""Predictions for models without scored answers, and trust in heads for novel prompts.

``ColdStart`` combines a model's prior with the prompt's difficulty, ``Novelty`` gives the trust in
the trained heads.

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
    """Difficulty of a prompt, and the score of a model whose average is known.

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
        """Return the parts of dense features, then factors, in the difficulty, shape (d + k,)."""
        return np.concatenate((encoded.dense, encoded.factors)) * self.weights

    def difficulty(self, encoded: Encoded) -> float:
        """Return the difficulty of a prompt in log-odds; 0 is typical, higher is harder."""
        return float(self.contributions(encoded).sum()) + self.bias

    def score(self, prior: float, difficulty: float) -> float:
        """Return the log-odds of a good answer from a model with this prior."""
        ability = np.interp(prior, self.grid_prior, self.grid_ability)
        return float(ability) - difficulty


@dataclass(frozen=True, slots=True)
class Novelty:
    """Trust in the heads for one prompt.

    The score is the root mean square of the standardised dense features (a Mahalanobis distance
    with a diagonal covariance), raised by the share of words the encoder does not know.

    Attributes:
        usual: 99th percentile of the score over the training prompts.
    """

    usual: float

    @staticmethod
    def score(encoded: Encoded) -> float:
        """Return the distance from the training prompts; about 1 for a typical one."""
        dense = encoded.dense
        return float(dense @ dense / len(dense)) ** 0.5 + 2.0 * (1.0 - encoded.known_share)

    def trust(self, encoded: Encoded) -> float:
        """Return 1 inside the usual range, falling with the square of the distance beyond it."""
        score = self.score(encoded)
        return 1.0 if score <= self.usual else (self.usual / score) ** 2
