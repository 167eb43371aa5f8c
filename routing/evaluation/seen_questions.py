"""The questions of a table that a router has seen, on which it is no fair measure of others.

A question is seen when the router was trained on it, or when its pool was scored on it
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
class SeenQuestions:
    """The seen ones among n questions.

    Attributes:
        trained_on: shape (n,), whether it was trained on the question.
        asked_pool: shape (n,), whether its pool was scored on the question.
    """

    trained_on: Bools
    asked_pool: Bools

    @property
    def new(self) -> NDArray[np.int64]:
        """Rows of the questions it has not seen."""
        return np.flatnonzero(~(self.trained_on | self.asked_pool))

    @property
    def count(self) -> int:
        """Number of questions it has seen."""
        return len(self.asked_pool) - len(self.new)

    def __str__(self) -> str:
        n = len(self.asked_pool)
        if not self.count:
            return f"this router has seen none of these {n} questions"
        both = int((self.trained_on & self.asked_pool).sum())
        return (
            f"this router has seen {self.count} of these {n} questions (trained on "
            f"{self.trained_on.sum()}, its pool was scored on {self.asked_pool.sum()}"
            + (f", {both} of them both)" if both else ")")
        )

    def to_json(self) -> dict[str, Any]:
        """Return counts for ``--json``."""
        return {
            "trained_on": int(self.trained_on.sum()),
            "asked_pool": int(self.asked_pool.sum()),
            "new": len(self.new),
        }


def seen_by(quality: LearnedQuality, prompts: Sequence[str]) -> SeenQuestions:
    """Return which of these prompts the router has seen."""
    keys = np.array([question_key(prompt) for prompt in prompts], dtype=np.uint64)
    factors = quality.encoder.factors
    asked_pool = [factors is not None and factors.memory.was_asked(prompt) for prompt in prompts]
    return SeenQuestions(np.isin(keys, quality.trained_on), np.array(asked_pool, dtype=bool))


def apgr_of_new(seen: SeenQuestions, p_good: Any, score: Any, rounds: int, seed: int) -> Interval:
    """Return APGR on the questions that the router has not seen.

    Args:
        seen: of the n questions.
        p_good: shape (n, 2), weak then strong.
        score: shape (n, 2), recorded.
        rounds: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than ``LEAST_NEW`` are new, or the strong model is not better on them.
    """
    rows = seen.new
    if len(rows) < LEAST_NEW:
        raise DataError(f"the {len(rows)} unseen ones are too few to judge by (need {LEAST_NEW})")
    gain, (weak, strong) = (p_good[:, 1] - p_good[:, 0])[rows], score[rows].T
    if strong.mean() <= weak.mean():
        raise DataError(
            f"on the {len(rows)} unseen ones the strong model scores {strong.mean():.3f} and the "
            f"weak one {weak.mean():.3f}: no APGR can be computed"
        )
    return bootstrap(
        lambda i: pair_curve(gain[i], weak[i], strong[i]).apgr, len(rows), rounds=rounds, seed=seed
    )
