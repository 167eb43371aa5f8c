"""Which questions of a table a router knows: what it is worth there says little of others.

A question is known when the router was trained on it, or when the pool it leans on was asked it
(docs/decisions/0015).
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routing.evaluation.bootstrap import Interval, bootstrap
from routing.evaluation.pair import pair_curve
from routing.features.key import question_key
from routing.quality import LearnedQuality
from turnout.errors import DataError

Bools = NDArray[np.bool_]
LEAST_NEW: Final = 30


@dataclass(frozen=True, slots=True)
class Known:
    """What a router knows of n questions.

    Attributes:
        trained_on: shape (n,), whether it was trained on the question.
        asked_pool: shape (n,), whether its pool was asked the question.
    """

    trained_on: Bools
    asked_pool: Bools

    @property
    def new(self) -> NDArray[np.int64]:
        """Rows of the questions it knows nothing of."""
        return np.flatnonzero(~(self.trained_on | self.asked_pool))

    @property
    def count(self) -> int:
        """How many questions it knows."""
        return len(self.asked_pool) - len(self.new)

    def __str__(self) -> str:
        n = len(self.asked_pool)
        if not self.count:
            return f"this router knows none of these {n} questions"
        both = int((self.trained_on & self.asked_pool).sum())
        return (
            f"this router knows {self.count} of these {n} questions (trained on "
            f"{self.trained_on.sum()}, its pool was asked {self.asked_pool.sum()}"
            + (f", {both} of them both)" if both else ")")
        )

    def to_json(self) -> dict[str, Any]:
        """Counts for ``--json``."""
        return {
            "trained_on": int(self.trained_on.sum()),
            "asked_pool": int(self.asked_pool.sum()),
            "new": len(self.new),
        }


def known_to(quality: LearnedQuality, prompts: Sequence[str]) -> Known:
    """What this router knows of these prompts."""
    keys = np.array([question_key(prompt) for prompt in prompts], dtype=np.uint64)
    factors = quality.encoder.factors
    asked = [factors is not None and factors.memory.was_asked(prompt) for prompt in prompts]
    return Known(np.isin(keys, quality.trained_on), np.array(asked, dtype=bool))


def apgr_of_new(known: Known, p_good: Any, score: Any, rounds: int, seed: int) -> Interval:
    """APGR on the questions the router knows nothing of.

    Args:
        known: of the n questions.
        p_good: shape (n, 2), weak then strong.
        score: shape (n, 2), recorded.
        rounds: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than ``LEAST_NEW`` are new, or the strong model is not better on them.
    """
    rows = known.new
    if len(rows) < LEAST_NEW:
        raise DataError(f"the {len(rows)} others are too few to judge it by (at least {LEAST_NEW})")
    gain, (weak, strong) = (p_good[:, 1] - p_good[:, 0])[rows], score[rows].T
    if strong.mean() <= weak.mean():
        raise DataError(
            f"on the {len(rows)} others the strong model scores {strong.mean():.3f} and the weak "
            f"one {weak.mean():.3f}: they cannot judge it"
        )
    return bootstrap(
        lambda i: pair_curve(gain[i], weak[i], strong[i]).apgr, len(rows), rounds=rounds, seed=seed
    )
