"""Which questions of a table a router knows already: what it is worth there says nothing of others.

A question is known when the router was trained on it, or when the pool it leans on was asked it by
other models (docs/decisions/0015). Both are told by the prompt's key.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.evaluation.bootstrap import Interval, bootstrap
from routing.evaluation.pair import pair_curve
from routing.features.key import prompt_key
from routing.quality import LearnedQuality
from turnout.errors import DataError

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Known:
    """What a router knows of n questions.

    Attributes:
        trained_on: shape (n,), whether it was trained on the question.
        by_pool: shape (n,), whether its pool remembers the question.
    """

    trained_on: Bools
    by_pool: Bools

    @property
    def new(self) -> NDArray[np.int64]:
        """Rows of the questions it knows nothing of."""
        return np.flatnonzero(~(self.trained_on | self.by_pool))

    @property
    def any(self) -> bool:
        """Whether it knows one."""
        return len(self.new) < len(self.trained_on)

    def __str__(self) -> str:
        return (
            f"{len(self.trained_on) - len(self.new)} of {len(self.trained_on)} questions are known "
            f"to this router (trained on {self.trained_on.sum()}, its pool was asked "
            f"{self.by_pool.sum()})"
        )

    def to_json(self) -> dict[str, Any]:
        """Counts for ``--json``."""
        return {
            "trained_on": int(self.trained_on.sum()),
            "by_pool": int(self.by_pool.sum()),
            "new": len(self.new),
        }


def known_to(quality: LearnedQuality, prompts: Sequence[str]) -> Known:
    """What this router knows of these prompts."""
    keys = [prompt_key(prompt) for prompt in prompts]
    factors = quality.encoder.factors
    met = [factors is not None and bool(factors.memory.by_key(key).any()) for key in keys]
    return Known(np.isin(np.array(keys, dtype=np.uint64), quality.trained_on), np.array(met, bool))


def apgr_of_new(known: Known, p_good: Any, score: Any, rounds: int, seed: int) -> Interval | None:
    """APGR on the questions the router knows nothing of; None where there is none to tell.

    Args:
        known: of the n questions.
        p_good: shape (n, 2), weak then strong.
        score: shape (n, 2), recorded.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    rows = known.new
    if not len(rows):
        return None
    gain, (weak, strong) = (p_good[:, 1] - p_good[:, 0])[rows], score[rows].T
    try:
        return bootstrap(
            lambda i: pair_curve(gain[i], weak[i], strong[i]).apgr,
            len(rows),
            rounds=rounds,
            seed=seed,
        )
    except DataError:
        return None
