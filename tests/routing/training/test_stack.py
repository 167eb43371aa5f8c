import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.training.stack import stack


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 4), st.integers(1, 5))
def test_weights_are_never_negative(seed: int, n: int, models: int, members: int):
    random = np.random.default_rng(seed)
    estimates = [random.normal(size=(n, models)) for _ in range(members)]
    score = random.normal(size=(n, models))
    score[random.random(score.shape) < 0.3] = np.nan
    weights = stack(estimates, score, np.full(members, 1.0 / members))
    assert weights.shape == (members,)
    assert (weights >= 0).all()
    assert np.isfinite(weights).all()


def test_what_predicts_gains_gets_the_weight_and_noise_gets_none():
    random = np.random.default_rng(0)
    truth = random.normal(size=(20_000, 2))
    score = truth + random.normal(size=truth.shape)
    weights = stack([truth, random.normal(size=truth.shape)], score, np.array([0.5, 0.5]))
    assert weights[0] > 0.9
    assert weights[1] < 0.1


def test_few_outcomes_leave_the_prior_nearly_as_it_was():
    random = np.random.default_rng(0)
    estimates = [random.normal(size=(20, 2)) for _ in range(2)]
    weights = stack(estimates, random.normal(size=(20, 2)), np.array([0.7, 0.3]))
    np.testing.assert_allclose(weights, [0.7, 0.3], atol=0.1)


def test_what_shifts_all_models_alike_says_nothing_of_gains():
    random = np.random.default_rng(0)
    gain = random.normal(size=(5_000, 1)) * [-1.0, 1.0]
    hard = random.normal(size=(5_000, 1)) * [1.0, 1.0]
    one = stack([gain], gain, np.array([0.5]))
    two = stack([gain], gain + 5.0 * hard, np.array([0.5]))
    np.testing.assert_allclose(one, two, atol=1e-9)
