"""How far a prompt is from the prompts the heads were trained on."""

from __future__ import annotations

from dataclasses import dataclass

from routing.quality.encoder import Encoded


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
        """Distance from the training prompts; about 1 for a typical one."""
        dense = encoded.dense
        return float(dense @ dense / len(dense)) ** 0.5 + 2.0 * (1.0 - encoded.known_share)

    def trust(self, encoded: Encoded) -> float:
        """1 inside the usual range, falling with the square of the distance beyond it."""
        score = self.score(encoded)
        return 1.0 if score <= self.usual else (self.usual / score) ** 2
