from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.evaluation.cascade_threshold import Recorded, at, bounded, for_share
from turnout.errors import DataError, TooFewOutcomes


def recorded(n: int, seed: int) -> Recorded:
    """A cheap model that knows when it is right; a large one that is right more often."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4.0, 1.0, n)
    cheap = rng.random(n) < confidence
    large = cheap | (rng.random(n) < 0.4)
    large &= rng.random(n) < 0.97
    return Recorded(confidence, cheap.astype(float), large.astype(float))


def test_the_bound_holds_as_often_as_it_says() -> None:
    fresh = recorded(200_000, 999)
    always = float(fresh.large.mean())
    broken = 0
    for seed in range(100):
        threshold = bounded(recorded(400, seed), 0.03, delta=0.1, seed=seed)
        broken += always - at(fresh, threshold).quality > 0.03
    assert broken <= 16


def test_more_answers_escalate_less_for_the_same_bound() -> None:
    few = [at(recorded(200, seed), bounded(recorded(200, seed), 0.02)).escalated for seed in (1, 2)]
    many = [
        at(recorded(20_000, seed), bounded(recorded(20_000, seed), 0.02)).escalated
        for seed in (1, 2)
    ]
    assert max(many) < min(few)


def test_nothing_can_be_promised_from_a_handful() -> None:
    handful = recorded(10, 0)
    assert at(handful, bounded(handful, 0.01)).escalated == 1.0


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_a_share_is_never_exceeded(confidence: list[float], share: float) -> None:
    values = np.array(confidence)
    made = Recorded(values, np.zeros_like(values), np.ones_like(values))
    assert at(made, for_share(made, share)).escalated <= share + 1e-9


def test_what_a_threshold_gives() -> None:
    made = Recorded(np.array([0.2, 0.6, 0.9]), np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0]))
    found = at(made, 0.5)
    assert (found.escalated, found.quality) == (pytest.approx(1 / 3), 1.0)
    assert (found.cheap, found.large) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_impossible_input_is_refused() -> None:
    one = np.array([0.5])
    with pytest.raises(TooFewOutcomes):
        Recorded(np.array([]), np.array([]), np.array([]))
    with pytest.raises(DataError, match="cheap"):
        Recorded(one, one * 3, one)
    with pytest.raises(DataError, match="length"):
        Recorded(one, np.array([]), one)
    with pytest.raises(DataError, match="most_loss"):
        bounded(Recorded(one, one, one), 0.0)
