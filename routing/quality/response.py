"""How likely each model is to answer well what a pool of other models found so easy: S-shaped.

In log-odds a model's chance is its ability plus what the factors of the prompt add to it. What is
easy for everyone and what is hard for everyone tell two models apart least; a straight line
cannot say so, and for a pair whose rates add up to 1 it would say nothing at all.

Source: item response theory, two-parameter logistic model, Birnbaum in Lord & Novick 1968.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ResponseCurves:
    """Weighed sum of several curves for each model.

    Attributes:
        shares: shape (c,), weight of each curve.
        ability: shape (c, m), log-odds of a good answer where all factors are 0.
        slopes: shape (f, c * m), what a unit of a factor adds to them, curve after curve.
    """

    shares: Floats
    ability: Floats
    slopes: Floats

    def estimate(self, factors: Floats) -> Floats:
        """The weighed sum of probabilities, shape (m,), for one prompt's factors, shape (f,)."""
        log_odds = (factors @ self.slopes).reshape(self.ability.shape) + self.ability
        half = np.float32(0.5)
        found = self.shares @ (half + half * np.tanh(half * log_odds))
        return found.astype(np.float32, copy=False)
