"""Exploration: a small, configured share of requests goes to a candidate drawn at random.

Only so does the log say what other models would have answered. Among the feasible candidates each
is equally likely, so no deadline, limit or floor is broken, and the probability of every candidate
is known exactly. The draw is a keyed hash of the request's id: no state, equal on replay.

Source of the use of logged propensities: Horvitz & Thompson (JASA 1952); Dudik, Langford & Li
(ICML 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

_SCALE = 2.0**-64


class Draws:
    """A uniform number for each request.

    Args:
        seed: key of the hash; the same seed gives the same draws.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed[:64]

    def draw(self, request_id: str) -> float:
        """A number in [0, 1), always the same for this id."""
        digest = blake2b(request_id.encode(), digest_size=8, key=self._seed).digest()
        return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Exploration:
    """What chance had to do with a decision.

    Attributes:
        share: probability that chance chose.
        draw: the number drawn, in [0, 1).
        policy_model: what the policy chose.
        models: among which chance chooses, equally likely.
    """

    share: float
    draw: float
    policy_model: str
    models: tuple[str, ...]

    @property
    def model(self) -> str:
        """Who answers."""
        if self.draw >= self.share:
            return self.policy_model
        return self.models[
            min(int(self.draw / self.share * len(self.models)), len(self.models) - 1)
        ]

    @property
    def by_chance(self) -> bool:
        """Whether chance chose, be it the policy's own choice."""
        return self.draw < self.share

    def propensity(self, model: str) -> float:
        """Probability that this model was chosen here."""
        chance = self.share / len(self.models) if model in self.models else 0.0
        return chance + (1.0 - self.share if model == self.policy_model else 0.0)


def explore(share: float, draw: float, chosen: str, feasible: Sequence[str]) -> Exploration | None:
    """Give chance its share; None where there is nothing to explore."""
    if share <= 0.0 or len(feasible) < 2:
        return None
    return Exploration(share, draw, chosen, tuple(feasible))
