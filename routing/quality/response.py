"""Response curves: P(good) of each model from a pool's factors, S-shaped.

In log-odds a model's chance is its ability plus the contributions of the prompt's factors. Prompts
that are easy or hard for all models separate two models least; a straight line cannot express
that, and for a pair whose rates add up to 1 it would separate them nowhere.

Source: item response theory, two-parameter logistic model, Birnbaum in Lord & Novick 1968.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ResponseCurves:
    """Weighted sum of several curves for each model.

    Attributes:
        shares: shape (c,), weight of each curve.
        ability: shape (c, m), log-odds of a good answer where all factors are 0.
        slopes: shape (f, c * m), log-odds added by a unit of a factor, curve after curve.
    """

    shares: Floats
    ability: Floats
    slopes: Floats

    def estimate(self, factors: Floats) -> Floats:
        """Return the weighted sum of probabilities, shape (m,), for one prompt's factors, (f,)."""
        log_odds = (factors @ self.slopes).reshape(self.ability.shape) + self.ability
        half = np.float32(0.5)
        p_good = self.shares @ (half + half * np.tanh(half * log_odds))
        return p_good.astype(np.float32, copy=False)
