"""The door: who comes in under load, with a clock of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.server.admission import Admission, admission_terms
from tests.services.conftest import CATALOG
from turnout.catalog.reading import parse

SHARES = {"realtime": 1.0, "interactive": 0.75, "bulk": 0.5}


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def filled(door: Admission, count: int) -> list[float]:
    return [door.enter() for _ in range(count)]


def test_bulk_is_refused_first_and_real_time_last() -> None:
    door = Admission(SHARES, 0.03, Clock())
    admitted: dict[str, int] = {}
    for name in ("bulk", "interactive", "realtime"):
        while door.admits(name):
            door.enter()
        admitted[name] = door.inside
    assert admitted["bulk"] < admitted["interactive"] < admitted["realtime"]
    assert not any(door.admits(name) for name in SHARES)


def test_what_was_read_but_has_not_begun_counts() -> None:
    door = Admission(SHARES, 0.03, Clock())
    while door.admits("realtime"):
        door.arrive()
    assert door.inside == 0
    door.begin_turn()
    assert door.admits("realtime")


def test_time_inside_counts_from_the_read_not_from_the_turn_at_running() -> None:
    clock = Clock()
    door = Admission(SHARES, 0.03, clock)
    assert door.arrive()
    assert not door.arrive()
    clock.now_s = 0.5
    door.begin_turn()
    assert door.enter() == door.enter() == 0.0
    assert door.enter() == 0.5


def test_the_bound_falls_while_answers_take_too_long_and_rises_again() -> None:
    clock = Clock()
    door = Admission(SHARES, 0.03, clock)
    before = door.limit
    for _ in range(20):
        entered = filled(door, int(door.limit))
        clock.now_s += 0.15
        for each in entered:
            door.leave(each)
    low = door.limit
    assert low < before / 4
    for _ in range(20):
        entered = filled(door, int(door.limit))
        door.refuse()
        clock.now_s += 0.11
        for _ in entered:
            door.leave(clock.now_s - 0.001)
    assert door.limit > 2 * low


def test_a_slow_moment_without_a_crowd_does_not_lower_the_bound() -> None:
    clock = Clock()
    door = Admission(SHARES, 0.03, clock)
    before = door.limit
    for _ in range(20):
        entered = filled(door, 5)
        clock.now_s += 0.15
        for each in entered:
            door.leave(each)
    assert door.limit >= before


def test_a_bound_that_is_never_met_stays() -> None:
    clock = Clock()
    door = Admission(SHARES, 0.03, clock)
    before = door.limit
    for _ in range(50):
        clock.now_s += 0.2
        door.leave(door.enter())
    assert door.limit == before


def test_retry_after_spreads_the_refused_over_the_capacity() -> None:
    clock = Clock()
    told: list[None] = []
    door = Admission(SHARES, 0.03, clock, lambda: told.append(None))
    for _ in range(70):
        door.refuse()
    entered = filled(door, 10)
    clock.now_s += 0.2
    for each in entered:
        door.leave(each)
    assert len(told) == 70
    assert door.retry_after_s >= 8


@given(st.lists(st.sampled_from(["realtime", "interactive", "bulk", "leave"]), max_size=400))
def test_no_class_is_let_in_where_a_more_urgent_one_would_be_refused(steps: list[str]) -> None:
    clock = Clock()
    door = Admission(SHARES, 0.03, clock)
    door.limit = 40.0
    inside: list[float] = []
    for step in steps:
        clock.now_s += 0.001
        if step != "leave":
            order = [door.admits(name) for name in ("realtime", "interactive", "bulk")]
            assert order == sorted(order, reverse=True)
            if door.admits(step):
                inside.append(door.enter())
        elif inside:
            door.leave(inside.pop())
        assert door.inside == len(inside) <= 40


def test_a_catalog_sets_shares_by_urgency() -> None:
    door = Admission(*admission_terms(parse(CATALOG, "test.yaml")), Clock())
    admitted = []
    for name in ("bulk", "interactive", "realtime"):
        while door.admits(name):
            door.enter()
        admitted.append(door.inside)
    assert admitted == sorted(set(admitted))


def test_a_door_that_goes_by_another_catalog_counts_on() -> None:
    door = Admission({"realtime": 1.0, "bulk": 1.0}, 0.1, Clock())
    for _ in range(100):
        door.enter()
    door.retune({"realtime": 1.0, "bulk": 0.25}, 0.1)
    assert door.inside == 100
    assert door.admits("realtime")
    assert not door.admits("bulk")
