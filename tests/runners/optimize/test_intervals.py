import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.optimize.intervals import bootstrap, paired_loss, wilson


def test_wilsons_own_numbers() -> None:
    """Source: Newcombe, Statistics in Medicine 1998, table I: 81 of 263, score."""
    found = wilson(81, 263, 0.95)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_no_error_in_n_is_no_proof_of_none() -> None:
    assert wilson(0, 20, 0.95).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20, 0.95).low == pytest.approx(0.8389, abs=1e-4)


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_an_interval_holds_its_share_and_narrows_with_more(
    count: int, data: st.DataObject, confidence: float
) -> None:
    hits = data.draw(st.integers(0, count))
    one, many = wilson(hits, count, confidence), wilson(hits * 10, count * 10, confidence)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert many.high - many.low < one.high - one.low


@given(st.integers(0, 40), st.integers(0, 40), st.integers(80, 500))
def test_a_paired_loss_turns_round_with_its_pairs(b: int, c: int, count: int) -> None:
    one, other = paired_loss(b, c, count, 0.95), paired_loss(c, b, count, 0.95)
    assert one.low <= one.value <= one.high
    assert math.isclose(one.low, -other.high, abs_tol=1e-12)
    assert one.high - one.low > 0  # also when nothing differed


def test_a_bootstrap_covers_the_mean_it_came_from() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    found = bootstrap(lambda rows: float(values[rows].mean()), 400, 0.95)
    assert found == bootstrap(lambda rows: float(values[rows].mean()), 400, 0.95)
    assert found.low < found.value < found.high
    # Normal theory: 1.96 standard errors of the mean on either side.
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_nothing_counted_says_nothing() -> None:
    assert math.isnan(wilson(0, 0, 0.95).value)
    assert (paired_loss(0, 0, 0, 0.95).low, paired_loss(0, 0, 0, 0.95).high) == (-1.0, 1.0)
