"""Chooses the next token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from turnout.types import TokenChance


class Sampler:
    """Samples greedily at temperature 0, else from the nucleus with a generator of its own.

    There is one sampler a sequence: a seed repeats its choices whatever runs beside it.

    Args:
        temperature: divides the logits.
        top_p: the smallest set of likeliest tokens with at least this mass is drawn from.
        seed: None draws one from the system.

    Source: Holtzman et al., The Curious Case of Neural Text Degeneration, ICLR 2020.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._random = np.random.default_rng(seed) if temperature > 0 else None

    def pick(self, logits: np.ndarray[Any, Any]) -> int:
        """Choose a token.

        Args:
            logits: shape (vocabulary,), float32.
        """
        if self._random is None:
            return int(logits.argmax())
        scaled = (logits - logits.max()).astype(np.float64) / self._temperature
        chances = np.exp(scaled)
        chances /= chances.sum()
        if self._top_p >= 1.0:
            return int(self._random.choice(len(chances), p=chances))
        return self._nucleus(chances, self._random)

    def _nucleus(self, chances: np.ndarray[Any, Any], random: np.random.Generator) -> int:
        # Tokens under (1 - top_p) / n hold less than 1 - top_p together, so none is in the set.
        likely = np.flatnonzero(chances >= (1.0 - self._top_p) / len(chances))
        order = likely[np.argsort(-chances[likely], kind="stable")]
        mass = np.cumsum(chances[order])
        kept = order[: int(np.searchsorted(mass, self._top_p)) + 1]
        weights = chances[kept]
        return int(random.choice(kept, p=weights / weights.sum()))


def token_chance(
    logits: np.ndarray[Any, Any], token: int, top: int, bytes_of: Callable[[int], bytes]
) -> TokenChance:
    """Return the model's own probability of a token (temperature 1, no nucleus, no constraint).

    Args:
        logits: shape (vocabulary,), float32.
        token: the chosen one.
        top: how many of the likeliest to list.
        bytes_of: the bytes of a token.
    """
    highest = logits.max()
    normaliser = highest + np.log(np.exp(logits - highest, dtype=np.float64).sum())

    def chance(token: int) -> tuple[bytes, float]:
        return bytes_of(token), min(float(logits[token] - normaliser), 0.0)

    likeliest: list[int] = []
    if top:
        highest_logits = np.argpartition(-logits, min(top, len(logits) - 1))[:top]
        order = np.argsort(-logits[highest_logits], kind="stable")
        likeliest = highest_logits[order].tolist()
    return TokenChance(*chance(token), tuple(TokenChance(*chance(other)) for other in likeliest))
