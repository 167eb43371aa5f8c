from __future__ import annotations

import numpy as np
import pytest

from routing.replay.off_policy import Evidence, estimate
from turnout.errors import DataError


def evidence(n: int, share: float, *, seed: int = 0, bias: float = 0.0) -> tuple[Evidence, float]:
    """A log that prefers model 0 and explores, a policy that always takes 1; and the truth."""
    rng = np.random.default_rng(seed)
    good = np.stack([rng.uniform(0.2, 0.6, n), rng.uniform(0.5, 0.9, n)])
    explored = rng.random(n) < share
    taken = np.where(explored, rng.integers(2, size=n), 0)
    propensity = np.where(taken == 0, 1 - share / 2, share / 2)
    rows = np.arange(n)
    reward = (rng.random(n) < good[taken, rows]).astype(np.float64)
    told = np.clip(good + bias, 0, 1)
    made = Evidence(
        taken == 1, propensity, np.full(n, share / 2), reward, told[taken, rows], told[1]
    )
    return made, float(good[1].mean())


@pytest.mark.parametrize("kind", ["ips", "snips", "dr"])
def test_the_truth_is_inside_the_interval_even_where_predictions_are_wrong(kind: str) -> None:
    inside = 0
    for seed in range(40):
        made, truth = evidence(3000, 0.2, seed=seed, bias=0.1)
        found = estimate(made, rounds=200, seed=seed).by[kind]
        inside += found.low <= truth <= found.high
    assert inside >= 33


def test_the_direct_method_inherits_the_bias_of_predictions() -> None:
    made, truth = evidence(3000, 0.2, bias=0.1)
    found = estimate(made).by["direct"]
    assert found.low > truth


def test_good_predictions_make_the_doubly_robust_interval_narrower() -> None:
    made, _ = evidence(3000, 0.1)
    by = estimate(made).by
    assert by["dr"].high - by["dr"].low < 0.8 * (by["ips"].high - by["ips"].low)


def test_the_same_policy_gets_its_own_mean_back() -> None:
    made, _ = evidence(500, 0.2)
    n = len(made.reward)
    own = Evidence(
        np.ones(n, np.bool_),
        np.ones(n),
        np.ones(n),
        made.reward,
        made.predicted_taken,
        made.predicted_taken,
    )
    found = estimate(own)
    assert found.effective == pytest.approx(n)
    assert found.by["ips"].value == pytest.approx(found.logged.value)
    assert found.warning is None


def test_too_little_overlap_is_said() -> None:
    made, _ = evidence(200, 0.02)
    assert "count like" in (estimate(made).warning or "")
    n = len(made.reward)
    never = Evidence(
        np.zeros(n, np.bool_),
        np.ones(n),
        np.zeros(n),
        made.reward,
        made.predicted_taken,
        made.predicted_new,
    )
    found = estimate(never)
    assert found.unsupported == 1.0
    assert "explore" in (found.warning or "")
    assert np.isnan(found.by["snips"].value)


def test_impossible_propensities_are_refused() -> None:
    made, _ = evidence(10, 0.2)
    wrong = Evidence(
        made.same, np.zeros(10), made.support, made.reward, made.predicted_taken, made.predicted_new
    )
    with pytest.raises(DataError, match="propensity"):
        estimate(wrong)
