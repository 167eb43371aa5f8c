from hypothesis import given
from hypothesis import strategies as st

from services.pipelines.deadline_split import seconds_after, share_s

_SECONDS = st.floats(0.0001, 100)


@given(_SECONDS, st.lists(_SECONDS, min_size=1, max_size=6))
def test_stages_in_a_row_never_share_more_than_there_is(
    left_s: float, expected: list[float]
) -> None:
    """However each stage uses up its share, the last one's ends at the deadline."""
    left = left_s
    for place, own_s in enumerate(expected):
        share = share_s(left, own_s, sum(expected[place + 1 :]))
        assert 0 <= share <= left * (1 + 1e-9)
        left -= share
    assert abs(left) <= left_s * 1e-6


@given(st.lists(_SECONDS, min_size=1, max_size=6), st.floats(1, 10))
def test_with_time_for_all_each_keeps_what_it_is_expected_to_take(
    expected: list[float], slack: float
) -> None:
    left = sum(expected) * slack
    for place, own_s in enumerate(expected):
        share = share_s(left, own_s, sum(expected[place + 1 :]))
        assert share >= own_s * (1 - 1e-6)
        left -= share


def test_a_stage_expected_to_take_nothing_may_have_it_all() -> None:
    assert share_s(2.0, 0.0, 0.0) == 2.0


def test_the_slowest_way_to_the_answer_counts() -> None:
    readers = {"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ()}
    seconds = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 3.0}
    assert seconds_after("a", readers, seconds.__getitem__) == 8.0
    assert seconds_after("d", readers, seconds.__getitem__) == 0.0
