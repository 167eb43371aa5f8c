import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.evaluation.bootstrap import bootstrap
from routing.evaluation.calibration import reliability
from routing.evaluation.pair import oracle_win_rate, pair_curve, quality_at
from routing.evaluation.pool import Frontier, pool_frontier
from routing.evaluation.threshold import for_quality, for_share
from turnout.errors import DataError


def world(n: int = 400, seed: int = 0):
    random = np.random.default_rng(seed)
    weak = (random.random(n) < 0.6).astype(float)
    strong = (random.random(n) < 0.85).astype(float)
    return weak, strong, random.random(n)


def test_apgr_by_hand():
    weak, strong = np.array([1.0, 0.0, 1.0, 0.0]), np.ones(4)
    rate = np.array([0.1, 0.9, 0.2, 0.8])
    curve = pair_curve(rate, weak, strong, bins=4)
    assert curve.share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert curve.pgr.tolist() == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert curve.apgr == pytest.approx(0.125 * 0.5 + 0.25 * 0.75 + 0.5)
    assert curve.cpt(0.5) == pytest.approx(0.25)
    assert curve.cpt(0.75) == pytest.approx(0.375)


def test_a_constant_router_is_a_coin():
    weak, strong, _ = world()
    assert pair_curve(np.zeros(len(weak)), weak, strong).apgr == pytest.approx(0.5)


@given(st.integers(0, 10_000))
def test_the_oracle_is_never_beaten_and_only_order_counts(seed: int):
    weak, strong, rate = world(120, seed)
    if strong.mean() <= weak.mean():
        return
    curve = pair_curve(rate, weak, strong)
    assert curve.apgr <= pair_curve(oracle_win_rate(weak, strong), weak, strong).apgr + 1e-9
    assert pair_curve(rate**3 * 7, weak, strong).apgr == pytest.approx(curve.apgr)
    assert (np.diff(curve.share) >= 0).all()
    assert 0.0 <= curve.cpt(0.5) <= curve.cpt(0.8) <= 1.0


def test_no_gap_to_recover():
    with pytest.raises(DataError, match="no gap"):
        pair_curve(np.arange(3.0), np.ones(3), np.zeros(3))


def test_calibration_error_of_the_honest_and_of_the_boaster():
    random = np.random.default_rng(0)
    p = random.random(20_000)
    y = (random.random(20_000) < p).astype(float)
    assert reliability(p, y).ece < 0.02
    assert reliability(np.minimum(p + 0.2, 1.0), y).ece > 0.1


def test_the_interval_holds_the_estimate():
    values = np.random.default_rng(1).normal(size=500)
    found = bootstrap(lambda rows: float(values[rows].mean()), 500, rounds=200)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(4 / np.sqrt(500), rel=0.3)


def test_the_hull_skips_dominated_settings():
    frontier = Frontier(np.array([1.0, 2.0, 2.5, 3.0]), np.array([0.2, 0.3, 0.25, 0.8]))
    costs, quality = frontier.hull()
    assert costs.tolist() == [1.0, 3.0]
    assert quality.tolist() == [0.2, 0.8]
    assert frontier.aiq(1.0, 3.0) == pytest.approx(0.5)


def test_knowing_the_scores_beats_knowing_nothing_in_a_pool():
    weak, strong, _ = world()
    score = np.stack([weak, strong], axis=1)
    cost = np.array([1.0, 10.0])
    informed = pool_frontier(score, score, cost).aiq(1.0, 10.0)
    blind = pool_frontier(np.tile(score.mean(axis=0), (len(weak), 1)), score, cost).aiq(1.0, 10.0)
    assert informed > blind


def test_thresholds_hold_what_they_promise():
    weak, strong, _ = world()
    score = np.stack([weak, strong], axis=1)
    gain = strong - weak + np.random.default_rng(3).normal(size=len(weak)) * 0.3
    third = for_share(gain, score, 0.3)
    assert third.strong_share == pytest.approx(0.3, abs=0.005)
    wanted = for_quality(gain, score, 0.95)
    assert wanted.of_best >= 0.95
    assert for_quality(gain, score, 0.5).strong_share == 0.0
    assert for_share(gain, score, 1.0).quality == pytest.approx(strong.mean())


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(share: float):
    with pytest.raises(DataError, match="strong-share"):
        for_share(np.zeros(2), np.zeros((2, 2)), share)


def test_the_few_that_matter_are_seen_where_most_look_alike():
    weak, strong = np.ones(100), np.ones(100)
    weak[::50] = 0.0
    rate = np.zeros(100)
    rate[::50] = 0.3
    assert quality_at(rate, weak, strong, 0.0) == 0.98
    assert quality_at(rate, weak, strong, 0.02) == 1.0
    assert quality_at(-rate, weak, strong, 0.02) == 0.98
    assert pair_curve(rate, weak, strong).recovered(0.99) == pytest.approx(0.5)
