"""Curves of response: what is easy for a pool, in log-odds of each model."""

import numpy as np
import pytest
from scipy.special import expit

from routing.quality import DEFAULT_ROUTER, load_router
from routing.quality.response import ResponseCurves
from routing.training.kernel import choose_landmarks, combine, fit_menu, likeness
from routing.training.response import (
    POOL_SLOPE,
    ability,
    fit_curves,
    prior_slopes,
    response_curves,
)

SHIPPED = DEFAULT_ROUTER


def asked(n: int, slopes: tuple[float, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Questions of one smooth and one remembered factor, two models of rates near .35 and .65."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=(n, 2))
    factors -= factors.mean(axis=0)
    p = expit((factors @ np.array(slopes))[:, None] + np.array([-0.7, 0.7]))
    return factors, (random.random(p.shape) < p).astype(float)


def test_the_estimate_is_the_weighed_sum_of_sigmoids():
    random = np.random.default_rng(0)
    shares, level, slopes = (
        random.normal(size=shape).astype(np.float32) for shape in ((2,), (2, 3), (4, 6))
    )
    factors = random.normal(size=4).astype(np.float32)
    found = ResponseCurves(shares, level, slopes).estimate(factors)
    assert found.dtype == np.float32
    want = sum(
        shares[c] * expit(level[c] + factors @ slopes[:, 3 * c : 3 * c + 3]) for c in range(2)
    )
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.05, 0.35, 0.9])
def test_the_ability_gives_the_rate(rate: float):
    easiness = np.random.default_rng(0).normal(size=500)
    assert expit(ability(rate, easiness) + easiness).mean() == pytest.approx(rate, abs=1e-6)


def test_without_prompts_the_ability_is_the_rate_itself():
    assert ability(0.5, np.zeros(0)) == 0.0


def test_the_pools_word_tells_models_apart_in_the_middle():
    """Rates that add up to 1: a straight line says nothing of them, the curve does."""
    factors, score = asked(400, (1.0, 0.0))
    score[:, 1] = 1.0 - score[:, 0]
    word, _ = fit_curves(factors, score, (0,))
    some = np.array([[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    weak, strong = word.estimate(some).T + word.level[:, None]
    hard, middle, easy = strong - weak
    assert middle > max(hard, easy) + 0.1


def test_labels_overrule_the_pool_when_there_are_many():
    factors, score = asked(20_000, (-0.5, 0.3), seed=1)
    _, own = fit_curves(factors, score, (0,))
    np.testing.assert_allclose(own.slopes, [[-0.5, -0.5], [0.3, 0.3]], atol=0.1)
    few = factors[:40], score[:40]
    _, own = fit_curves(*few, (0,))
    assert (own.slopes[0] > 0.5 * POOL_SLOPE).all()


def test_a_memory_that_knows_no_question_counts_for_nothing():
    factors, score = asked(200, (1.0, 0.0))
    factors[:, 1] = 0.0
    word, own = fit_curves(factors, score, (0,))
    assert prior_slopes(2, (0,))[0][1] > 0.0
    assert not word.slopes[1].any()
    assert not own.slopes[1].any()


def test_a_memory_of_others_questions_counts_for_nothing_either():
    """Beside models whose questions are remembered: what is taken from all is no memory."""
    factors, score = asked(200, (1.0, 0.5))
    factors[:100, 1] = 0.0
    factors -= factors.mean(axis=0)
    score[100:, 0], score[:100, 1] = np.nan, np.nan
    word, own = fit_curves(factors, score, (0,))
    assert word.slopes[1].tolist() == [0.0, 1.0]
    assert own.slopes[1, 0] == 0.0
    assert own.slopes[1, 1] > 0.1


def test_labels_against_the_pool_do_not_run_away():
    """Heavy tails and outcomes opposite to the pool's word: still the minimum."""
    random = np.random.default_rng(0)
    for seed in range(20):
        factors = random.standard_cauchy((60, 2)) * 3.0
        score = (factors @ [1.0, 1.0] + random.normal(size=60) < 0.0).astype(float)[:, None]
        _, own = fit_curves(factors, score, (0,))
        assert np.abs(own.slopes).max() < 30.0, seed


def test_what_serves_is_what_was_fitted():
    factors, score = asked(300, (1.0, 0.5))
    curves = fit_curves(factors, score, (0,))
    usual = np.array([0.3, -0.2])
    served = response_curves(curves, np.array([0.5, 2.0]), usual)
    for row in factors[:5]:
        want = sum(
            share * (curve.estimate(row[None])[0] + curve.level)
            for share, curve in zip((0.5, 2.0), curves, strict=True)
        )
        np.testing.assert_allclose(served.estimate((row + usual).astype("f4")), want, atol=1e-5)


@pytest.mark.parametrize("missing", [0, 60])
def test_one_set_of_weights_says_what_the_weighed_menu_says(missing: int):
    """Also for a model that answered only some of the questions, and one that answered none."""
    encoder = load_router(SHIPPED).encoder
    random = np.random.default_rng(0)
    dense = random.normal(size=(150, len(encoder.dense_names))).astype(np.float32)
    factors = random.normal(size=(150, 4)).astype(np.float32)
    score = (random.random((150, 3)) < expit(factors[:, :1])).astype(float)
    score[:missing, 1] = np.nan
    if missing:
        score[:, 2] = np.nan
    marks = choose_landmarks(dense, encoder, 0, count=50)
    menu = fit_menu(marks, likeness(marks, dense), factors, score, (0,))
    share, base = random.random(len(menu.members)), np.array([0.4, 0.5, 0.6])
    usual = factors.mean(axis=0)
    heads = combine(marks, menu, share, usual, base)
    found = np.stack([heads.estimate(*row) for row in zip(dense, factors, strict=True)])
    menus = menu.estimates(likeness(marks, dense), factors - usual)
    np.testing.assert_allclose(found, base + np.einsum("i,inm->nm", share, menus), atol=2e-4)


def test_members_are_level_where_models_answered_different_questions():
    encoder = load_router(SHIPPED).encoder
    random = np.random.default_rng(0)
    dense = random.normal(size=(300, len(encoder.dense_names))).astype(np.float32)
    factors = random.normal(size=(300, 4)).astype(np.float32)
    factors[150:] += 1.5
    score = (random.random((300, 2)) < expit(factors[:, :1])).astype(float)
    score[150:, 0], score[:150, 1] = np.nan, np.nan
    marks = choose_landmarks(dense, encoder, 0, count=50)
    like = likeness(marks, dense)
    menu = fit_menu(marks, like, factors, score, (0,))
    for deviation in menu.estimates(like, factors - factors.mean(axis=0)):
        own = np.where(np.isnan(score), np.nan, deviation)
        assert np.abs(np.nanmean(own, axis=0)).max() < 0.02
