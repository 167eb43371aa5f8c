from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routing.rollout.sequential import SequentialTest

LOSSES = st.lists(st.tuples(st.booleans(), st.floats(0.0, 1.0)), max_size=300)


def alarm_after(old: float, new: float, n: int, seed: int) -> int | None:
    rng = np.random.default_rng(seed)
    test = SequentialTest(margin=0.02, alpha=0.05 / 3)
    for index in range(n):
        test.old(float(rng.random() < old))
        test.new(float(rng.random() < new))
        if test.alarm:
            return index
    return None


def test_an_equal_or_slightly_worse_one_is_rarely_stopped_however_often_one_looks() -> None:
    alarms = sum(alarm_after(0.10, 0.11, 2000, seed) is not None for seed in range(100))
    assert alarms <= 5


def test_a_worse_one_is_stopped_soon() -> None:
    after = [alarm_after(0.02, 0.30, 2000, seed) for seed in range(30)]
    assert all(one is not None for one in after)
    assert float(np.median([one for one in after if one is not None])) < 100


@given(LOSSES)
def test_wealth_is_never_negative_and_an_alarm_stays(losses: list[tuple[bool, float]]) -> None:
    test = SequentialTest()
    raised = False
    for is_new, loss in losses:
        test.new(loss) if is_new else test.old(loss)
        assert test.wealth >= 0.0
        assert test.alarm >= raised
        raised = test.alarm


def test_losses_are_paired_as_they_come() -> None:
    test = SequentialTest()
    for _ in range(5):
        test.new(1.0)
    assert test.pairs == 0
    for _ in range(3):
        test.old(0.0)
    assert test.pairs == 3
