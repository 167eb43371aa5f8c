from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runners.pool.slot import Window, any_holds

minutes = st.integers(0, 1439)


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window.read("07:55-10:00")
    assert [window.holds(m) for m in (474, 475, 599, 600)] == [False, True, True, False]


@given(minutes, minutes, minutes)
def test_a_window_and_its_reverse_share_the_day(start: int, end: int, minute: int) -> None:
    if start != end:
        assert Window(start, end).holds(minute) != Window(end, start).holds(minute)
    assert not any_holds((), minute)
