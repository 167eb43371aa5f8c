"""Exploration: a small, configured share of requests goes to a candidate drawn at random.

This records in the log how other models would have answered. Among the feasible candidates each
is equally likely, so no deadline, limit or floor is broken, and the probability of every candidate
is exact. The draw is ``routing.draws.Draws`` of the request's id.

Source of the use of logged propensities: Horvitz & Thompson (JASA 1952); Dudik, Langford & Li
(ICML 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exploration:
    """The random draw in a decision.

    Attributes:
        share: probability that the model is drawn at random.
        draw: the number drawn, in [0, 1).
        policy_model: the policy's choice.
        models: the models drawn from, equally likely.
    """

    share: float
    draw: float
    policy_model: str
    models: tuple[str, ...]

    @property
    def model(self) -> str:
        """The model that answers."""
        if self.draw >= self.share:
            return self.policy_model
        return self.models[
            min(int(self.draw / self.share * len(self.models)), len(self.models) - 1)
        ]

    @property
    def by_chance(self) -> bool:
        """Whether the model was drawn at random, even if it is the policy's own choice."""
        return self.draw < self.share

    def propensity(self, model: str) -> float:
        """Return the probability that this model was chosen here."""
        chance = self.share / len(self.models) if model in self.models else 0.0
        return chance + (1.0 - self.share if model == self.policy_model else 0.0)


def explore(share: float, draw: float, chosen: str, feasible: Sequence[str]) -> Exploration | None:
    """Draw for one request; None where there is nothing to explore."""
    if share <= 0.0 or len(feasible) < 2:
        return None
    return Exploration(share, draw, chosen, tuple(feasible))
