"""Calibration of the heads: what few outcomes may say, and what many must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.quality.heads import Calibration
from routing.training.calibrate import LOG_SLOPE, base_rates, calibrate


def shrunk(n: int, by: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Estimates whose log-odds say ``by`` of the truth's spread, and outcomes of two models."""
    random = np.random.default_rng(seed)
    odds = random.normal(0.0, 1.0, size=(n, 1)) + np.array([0.0, 0.5])
    score = (random.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float)
    estimate = 1 / (1 + np.exp(-(odds.mean(axis=0) + by * (odds - odds.mean(axis=0)))))
    return estimate, score


def error(found: Calibration, estimate: np.ndarray, score: np.ndarray) -> float:
    p = 1 / (1 + np.exp(-found.scores(estimate.astype(np.float32))))
    return float(np.abs(p.mean(axis=0) - score.mean(axis=0)).max())


@pytest.mark.parametrize("by", [0.3, 1.0, 2.0])
def test_many_outcomes_give_the_slope(by: float):
    estimate, score = shrunk(6000, by)
    found = calibrate(estimate, score)
    assert found.slope[0] == found.slope[1] == pytest.approx(1 / by, rel=0.15)
    assert error(found, estimate, score) < 0.02


def test_without_information_the_slope_is_the_usual_one():
    _, score = shrunk(40, 1.0)
    flat = np.broadcast_to(base_rates(score), score.shape)
    assert calibrate(flat, score).slope[0] == pytest.approx(np.exp(LOG_SLOPE), rel=0.05)


def test_an_unanswered_question_counts_for_nothing():
    estimate, score = shrunk(300, 1.0)
    more = np.full((200, 2), np.nan)
    padded = calibrate(np.concatenate((estimate, more)), np.concatenate((score, more)))
    plain = calibrate(estimate, score)
    np.testing.assert_allclose(padded.slope, plain.slope, rtol=1e-3)
    np.testing.assert_allclose(padded.shift, plain.shift, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_base_rates_lie_between_what_was_seen_and_a_half(good: int, bad: int):
    score = np.concatenate((np.ones(good), np.zeros(bad), [np.nan]))[:, None]
    rate = float(base_rates(score)[0])
    seen = good / (good + bad) if good + bad else 0.5
    assert 0.0 < rate < 1.0
    assert min(seen, 0.5) <= rate <= max(seen, 0.5)
