from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.pool.eviction import ORDERS, Demand, Order, Resident, by_age, by_worth, victims

residents = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        size_bytes=st.integers(0, 100),
        worth=st.floats(0, 1e3),
        loaded_s=st.floats(0, 1e3),
        used_s=st.floats(0, 1e3),
        held=st.booleans(),
    ),
    max_size=12,
)


@given(residents, st.integers(0, 400), st.sampled_from(list(ORDERS.values())))
def test_enough_goes_never_what_is_held_and_nobody_without_need(
    loaded: list[Resident], need: int, order: Order
) -> None:
    by_name = {one.name: one for one in loaded}
    free = sum(one.size_bytes for one in loaded if not one.held)
    chosen = victims(loaded, need, order)
    if chosen is None:
        assert free < need
        return
    sizes = [by_name[name].size_bytes for name in chosen]
    assert len(set(chosen)) == len(chosen)
    assert not any(by_name[name].held for name in chosen)
    assert sum(sizes) >= need
    assert all(sum(sizes) - size < need for size in sizes)


@given(residents)
def test_each_order_names_everyone_once(loaded: list[Resident]) -> None:
    for order in ORDERS.values():
        assert sorted(one.name for one in order(loaded)) == sorted(one.name for one in loaded)


def test_the_least_worth_a_byte_goes_first() -> None:
    urgent = Resident("urgent", 10, worth=5.0, loaded_s=9.0, used_s=1.0)
    large = Resident("large", 100, worth=6.0, loaded_s=1.0, used_s=9.0)
    assert victims([urgent, large], 5) == ("large",)
    assert victims([urgent, large], 5, by_age) == ("urgent",)


def cyclic_misses(order: Order, capacity: int, models: int, rounds: int) -> int:
    """Misses of the last half of the rounds, models of equal size asked for in a circle."""
    loaded: dict[str, Resident] = {}
    misses = now_s = 0
    for step in range(rounds * models):
        now_s += 1
        name = f"m{step % models}"
        if name in loaded:
            one = loaded[name]
            loaded[name] = Resident(name, 1, 1.0, one.loaded_s, now_s)
            continue
        misses += step >= rounds * models // 2
        for gone in victims(list(loaded.values()), len(loaded) + 1 - capacity, order) or ():
            del loaded[gone]
        loaded[name] = Resident(name, 1, 1.0, now_s, now_s)
    return misses


@given(st.integers(2, 12), st.integers(1, 6))
def test_cyclic_access_does_not_thrash(capacity: int, outside: int) -> None:
    models, rounds = capacity + outside, 8
    asked = models * rounds // 2
    misses = cyclic_misses(by_worth, capacity, models, rounds)
    # A stable set of all but one place stays: only those outside it miss.
    assert misses <= rounds // 2 * (outside + 1) + models
    assert cyclic_misses(by_age, capacity, models, rounds) == asked


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_of_nothing_nothing_is_freed(order: Callable[[Iterable[Resident]], list[Resident]]) -> None:
    assert victims([], 1, order) is None
    assert victims([], 0, order) == ()


def test_a_request_counts_half_after_a_half_life() -> None:
    demand = Demand(half_life_s=10.0)
    demand.note(0)
    first = demand.rate(0.0)[0]
    assert demand.rate(10.0)[0] == pytest.approx(first / 2)
    assert demand.rate(30.0)[0] == pytest.approx(first / 8)


@given(st.floats(0.5, 50.0), st.integers(0, 2))
def test_steady_traffic_is_counted_at_its_rate(rate: float, level: int) -> None:
    demand = Demand(half_life_s=20.0)
    now_s = 0.0
    for _ in range(int(200 * rate)):
        now_s += 1.0 / rate
        demand.note(level)
        demand.rate(now_s)
    assert math.isclose(demand.rate(now_s)[level], rate, rel_tol=0.1)


@given(st.floats(0.01, 10.0), st.integers(1, 20))
def test_worth_grows_with_urgency_rate_and_reload_time(reload_s: float, asked: int) -> None:
    urgency = {0: 10.0, 1: 0.3, 2: 0.002}
    urgent, patient = Demand(), Demand()
    for _ in range(asked):
        urgent.note(0)
        patient.note(1)
    assert urgent.worth(urgency, reload_s, 0.0) > patient.worth(urgency, reload_s, 0.0)
    assert urgent.worth(urgency, 2 * reload_s, 0.0) > urgent.worth(urgency, reload_s, 0.0)
    before = urgent.worth(urgency, reload_s, 0.0)
    urgent.note(0)
    assert urgent.worth(urgency, reload_s, 0.0) > before
