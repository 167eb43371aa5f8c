from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runners.batching.queue import Waiting, WorkQueue


def work(item: int, *, rows: int = 1, priority: int = 0, deadline_s: float = 10.0,
         arrived_s: float = 0.0) -> Waiting[int]:  # fmt: skip
    return Waiting(item, rows, priority, deadline_s, arrived_s)


def drained(queue: WorkQueue[int], now_s: float = 0.0, max_rows: int = 1) -> list[int]:
    order: list[int] = []
    while len(queue):
        taken = queue.take(now_s, max_rows, lambda rows: 0.0)
        order += [waiting.item for waiting in taken.batch]
    return order


def test_the_most_urgent_class_goes_first_and_the_earliest_deadline_within_it() -> None:
    queue: WorkQueue[int] = WorkQueue(100)
    queue.push(work(1, priority=2, deadline_s=1.0))
    queue.push(work(2, priority=0, deadline_s=9.0))
    queue.push(work(3, priority=0, deadline_s=5.0))
    queue.push(work(4, priority=1, deadline_s=1.0))
    assert drained(queue) == [3, 2, 4, 1]


def test_a_class_that_was_not_served_goes_first_once() -> None:
    queue: WorkQueue[int] = WorkQueue(100, ageing_s=1.0)
    queue.push(work(1, priority=2))
    for item in (2, 3):
        queue.push(work(item, priority=0, arrived_s=1.5))
    assert drained(queue, now_s=1.6) == [1, 2, 3]


def test_bulk_progresses_beside_endless_urgent_work() -> None:
    queue: WorkQueue[int] = WorkQueue(10_000, ageing_s=1.0)
    for item in range(5):
        queue.push(work(item, priority=2, deadline_s=1e9))
    served = 0
    for tick in range(600):
        now_s = tick / 100
        queue.push(work(100 + tick, deadline_s=now_s + 1, arrived_s=now_s))
        served += sum(w.priority == 2 for w in queue.take(now_s, 1, lambda rows: 0.01).batch)
    assert served == 5


def test_work_past_its_deadline_is_handed_back_not_run() -> None:
    queue: WorkQueue[int] = WorkQueue(100)
    queue.push(work(1, deadline_s=1.0))
    queue.push(work(2, deadline_s=3.0))
    taken = queue.take(2.0, 10, lambda rows: 0.0)
    assert [w.item for w in taken.batch] == [2]
    assert [w.item for w in taken.expired] == [1]


def test_a_batch_never_grows_at_the_price_of_its_most_urgent_deadline() -> None:
    queue: WorkQueue[int] = WorkQueue(100)
    for item in range(4):
        queue.push(work(item, deadline_s=0.025))
    taken = queue.take(0.0, 10, lambda rows: 0.010 * rows)
    assert len(taken.batch) == 2


def test_a_deadline_that_is_lost_anyway_does_not_keep_batches_small() -> None:
    queue: WorkQueue[int] = WorkQueue(100)
    for item in range(4):
        queue.push(work(item, deadline_s=0.005))
    assert len(queue.take(0.0, 10, lambda rows: 0.010 * rows).batch) == 4


def test_dropped_work_does_not_run_and_frees_its_place() -> None:
    queue: WorkQueue[int] = WorkQueue(2)
    first, second = work(1), work(2)
    queue.push(first)
    queue.push(second)
    assert not queue.fits(1)
    queue.drop(first)
    queue.drop(first)
    assert queue.fits(1)
    assert drained(queue) == [2]


def test_one_piece_larger_than_a_batch_still_runs_alone() -> None:
    queue: WorkQueue[int] = WorkQueue(10)
    queue.push(work(1, rows=50))
    queue.push(work(2))
    assert [w.item for w in queue.take(0.0, 8, lambda rows: 0.0).batch] == [1]


Step = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 2), st.floats(0, 20), st.integers(1, 5)),
    st.tuples(st.just("take"), st.integers(1, 8)),
    st.tuples(st.just("drop"), st.integers(0, 30)),
)


@given(st.lists(Step, max_size=60))
def test_nothing_is_lost_and_nothing_is_served_twice(steps: list[tuple]) -> None:
    queue: WorkQueue[int] = WorkQueue(10_000, ageing_s=3.0)
    pushed: list[Waiting[int]] = []
    out: list[int] = []
    dropped: set[int] = set()
    now_s = 0.0
    for step in steps:
        now_s += 0.5
        if step[0] == "push":
            waiting = work(len(pushed), rows=step[3], priority=step[1], deadline_s=step[2],
                           arrived_s=now_s)  # fmt: skip
            pushed.append(waiting)
            queue.push(waiting)
        elif step[0] == "drop" and step[1] < len(pushed):
            waiting = pushed[step[1]]
            if not waiting.dropped:
                dropped.add(waiting.item)
            queue.drop(waiting)
        elif step[0] == "take":
            taken = queue.take(now_s, step[1], lambda rows: 0.1 * rows)
            rows = sum(waiting.rows for waiting in taken.batch)
            assert rows <= step[1] or len(taken.batch) == 1
            assert all(waiting.deadline_s < now_s for waiting in taken.expired)
            assert all(waiting.deadline_s >= now_s for waiting in taken.batch)
            out += [waiting.item for waiting in (*taken.batch, *taken.expired)]
    rest = [waiting.item for waiting in queue.clear()]
    assert sorted([*out, *rest, *dropped]) == list(range(len(pushed)))
    assert len(queue) == queue.rows == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(1, 20)), min_size=1, max_size=40))
def test_without_ageing_no_class_overtakes_a_more_urgent_one(given_: list) -> None:
    queue: WorkQueue[int] = WorkQueue(10_000, ageing_s=1e9)
    waiting = [work(i, priority=p, deadline_s=d) for i, (p, d) in enumerate(given_)]
    for one in waiting:
        queue.push(one)
    order = [(waiting[item].priority, waiting[item].deadline_s) for item in drained(queue)]
    assert order == sorted(order)


def test_a_full_queue_gives_up_its_least_urgent_work_first() -> None:
    queue: WorkQueue[int] = WorkQueue(4)
    for item, priority in enumerate((2, 1, 2, 0)):
        queue.push(work(item, priority=priority))
    assert not queue.fits(2)
    assert {waiting.item for waiting in queue.evict(2, priority=0)} == {0, 2}
    assert queue.fits(2)
    assert queue.evict(3, priority=1) == []
    assert drained(queue) == [3, 1]


def test_expired_work_does_not_count_as_service_of_its_class() -> None:
    queue: WorkQueue[int] = WorkQueue(100, ageing_s=1.0)
    queue.push(work(1, priority=2, deadline_s=0.5))
    queue.push(work(2, priority=2, deadline_s=99.0))
    queue.push(work(3, priority=0, deadline_s=99.0, arrived_s=1.9))
    taken = queue.take(2.0, 1, lambda rows: 0.0)
    assert [w.item for w in taken.expired] == [1]
    assert [w.item for w in taken.batch] == [2]


Arrivals = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.001, 5), st.integers(1, 6)), min_size=1, max_size=40
)


@given(Arrivals, st.integers(1, 16), st.floats(0.0001, 0.2))
def test_no_member_of_a_batch_misses_a_deadline_that_a_smaller_batch_would_have_held(
    given_: list, max_rows: int, per_row_s: float
) -> None:
    queue: WorkQueue[int] = WorkQueue(10_000)
    for item, (priority, deadline_s, rows) in enumerate(given_):
        queue.push(work(item, priority=priority, deadline_s=deadline_s, rows=rows))
    batch = queue.take(0.0, max_rows, lambda rows: per_row_s * rows).batch
    rows = 0
    for taken in batch:
        rows += taken.rows
    together_s = per_row_s * rows
    rows = 0
    for taken in batch:
        rows += taken.rows
        held = per_row_s * rows <= min(w.deadline_s for w in batch[: batch.index(taken) + 1])
        if held and rows < sum(w.rows for w in batch):
            # All up to here held their deadlines as a batch; what joined after did not cost one.
            first = batch[: batch.index(taken) + 1]
            assert all(together_s <= w.deadline_s for w in first)


@given(Arrivals, st.integers(0, 2), st.integers(1, 30), st.integers(1, 60))
def test_eviction_takes_only_less_urgent_work_and_only_when_it_helps(
    given_: list, priority: int, rows: int, bound: int
) -> None:
    queue: WorkQueue[int] = WorkQueue(bound)
    accepted: dict[int, Waiting[int]] = {}
    for item, (level, deadline_s, size) in enumerate(given_):
        if queue.fits(size):
            accepted[item] = work(item, priority=level, deadline_s=deadline_s, rows=size)
            queue.push(accepted[item])
    fitted, before = queue.fits(rows), queue.rows
    evicted = [] if fitted else queue.evict(rows, priority)
    assert all(waiting.priority > priority for waiting in evicted)
    assert queue.rows == before - sum(waiting.rows for waiting in evicted)
    assert queue.fits(rows) or not evicted
    rest = {waiting.item for waiting in queue.clear()}
    gone = {waiting.item for waiting in evicted}
    assert len(gone) == len(evicted)
    assert not rest & gone
    assert rest | gone == set(accepted)


@given(Arrivals, st.integers(1, 40))
def test_rows_ahead_and_the_bound_are_what_is_really_there(given_: list, bound: int) -> None:
    queue: WorkQueue[int] = WorkQueue(bound)
    held: list[Waiting[int]] = []
    for item, (level, deadline_s, size) in enumerate(given_):
        if queue.fits(size):
            held.append(work(item, priority=level, deadline_s=deadline_s, rows=size))
            queue.push(held[-1])
        if item % 3 == 2:
            queue.drop(held[item % len(held)])
        if item % 4 == 3:
            queue.take(0.5, 4, lambda rows: 0.01 * rows)
        alive = [waiting for waiting in held if not waiting.dropped]
        for priority in range(3):
            assert queue.rows_before(priority) == sum(
                waiting.rows for waiting in alive if waiting.priority <= priority
            )
        assert queue.rows == sum(waiting.rows for waiting in alive)
        assert queue.rows <= bound or len(queue) == 1


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 8)), min_size=20, max_size=120),
    st.integers(1, 8),
)
def test_a_waiting_class_is_served_within_its_ageing_time_whatever_else_arrives(
    arrivals: list, max_rows: int
) -> None:
    step_s, ageing_s = 0.1, 0.5
    queue: WorkQueue[str] = WorkQueue(10_000, ageing_s=ageing_s)
    for number in range(200):
        queue.push(Waiting(f"bulk {number}", 1, 2, float("inf"), 0.0))
    last_s, served = 0.0, 0
    for tick, (priority, rows) in enumerate(arrivals):
        now_s = (tick + 1) * step_s
        queue.push(Waiting("urgent", rows, priority, now_s + 99.0, now_s))
        taken = queue.take(now_s, max_rows, lambda rows: 0.0)
        if any(waiting.priority == 2 for waiting in taken.batch):
            last_s = now_s
        served += sum(waiting.priority == 2 for waiting in taken.batch)
        # Two classes can have aged at once; each then gives way for one run.
        assert served == 200 or now_s - last_s <= ageing_s + 3 * step_s
