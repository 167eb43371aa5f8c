"""The worker over a real database (SQLite, PostgreSQL), with endpoints of the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.batch_api import batches, leases, validation
from services.batch_api.worker import LEASE_S, Worker
from services.database.connection import Database
from tests.services.batch_api.conftest import URL, Clock, Squares, content, lines_of, submit, until
from turnout.errors import InvalidRequest, QueueFull, RunFailed

Make = Callable[[], Worker]
pytestmark = pytest.mark.timeout(60)


async def test_a_batch_is_answered_in_input_order(
    database: Database, make_worker: Make, clock: Clock
) -> None:
    batch = await submit(database, lines_of(list(range(50))), clock)
    make_worker().start()
    done = await until(database, batch.id, "completed")
    assert (done.total, done.completed, done.failed) == (50, 50, 0)
    assert done.error_file_id is None
    lines = await content(database, done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"id-{x}" for x in range(50)]
    assert [line["response"]["body"]["y"] for line in lines] == [x * x for x in range(50)]
    assert lines[7]["response"]["status_code"] == 200
    assert lines[7]["response"]["request_id"] == "req-7"
    assert len({line["id"] for line in lines}) == 50


async def test_an_answer_that_is_no_json_fails_its_own_row(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    squares.answers[2] = object()
    batch = await submit(database, lines_of(list(range(4))), clock)
    make_worker().start()
    done = await until(database, batch.id, "completed")
    assert (done.completed, done.failed) == (3, 1)
    [line] = await content(database, done.error_file_id)
    assert line["custom_id"] == "id-2"


async def test_two_workers_share_a_batch(
    database: Database, make_worker: Make, clock: Clock
) -> None:
    batch = await submit(database, lines_of(list(range(200))), clock)
    for _ in range(2):
        make_worker().start()
    done = await until(database, batch.id, "completed")
    lines = await content(database, done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"id-{x}" for x in range(200)]


async def test_what_may_pass_is_tried_again_and_what_may_not_goes_to_the_error_file(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    squares.problems = {
        1: [QueueFull("m", 9, 0.5) for _ in range(30)],
        2: [RunFailed("m", "hiccup") for _ in range(3)],
        3: [RunFailed("m", "broken") for _ in range(99)],
        4: [InvalidRequest("bad row")],
    }
    batch = await submit(database, lines_of([0, 1, 2, 3, 4, 5]), clock)
    make_worker().start()
    done = await until(database, batch.id, "completed")
    assert (done.completed, done.failed) == (4, 2)
    good = await content(database, done.output_file_id)
    bad = await content(database, done.error_file_id)
    assert [line["custom_id"] for line in good] == ["id-0", "id-1", "id-2", "id-5"]
    assert [line["custom_id"] for line in bad] == ["id-3", "id-4"]
    assert "broken" in bad[0]["response"]["body"]["error"]
    assert len(squares.problems[3]) == 99 - 5


async def test_a_file_with_bad_lines_fails_before_anything_runs(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    good = lines_of([1, 2])
    wrong = b'{"custom_id": "a", "method": "GET", "url": "/x", "body": {}}\n'
    batch = await submit(database, good + b"nonsense\n" + wrong + lines_of([2]), clock)
    make_worker().start()
    failed = await until(database, batch.id, "failed")
    assert failed.errors is not None
    assert [(e["line"], e["code"]) for e in failed.errors] == [
        (3, "invalid_json_line"),
        (4, "invalid_method"),
        (5, "duplicate_custom_id"),
    ]
    assert squares.ran == []


async def test_a_worker_that_stops_gives_its_leases_back_at_once(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    squares.gate = asyncio.Event()
    batch = await submit(database, lines_of(list(range(20))), clock)
    first = make_worker()
    first.start()
    await until(database, batch.id, "in_progress")
    await first.stop()
    squares.gate = None
    make_worker().start()  # and the clock stands still: nothing can lapse
    done = await until(database, batch.id, "completed")
    assert done.completed == 20


async def test_a_worker_that_is_woken_as_it_stops_still_stops(
    make_worker: Make, clock: Clock
) -> None:
    for turns in range(6):
        worker = make_worker()
        worker.start()
        await worker.turn()  # nothing to do: it waits to be woken
        worker.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        await worker.stop()


async def test_another_worker_takes_over_after_the_lease(
    database: Database, make_worker: Make, clock: Clock
) -> None:
    batch = await submit(database, lines_of(list(range(20))), clock)
    dead = make_worker()  # takes, and is never heard of again
    await dead.turn()
    await until(database, batch.id, "in_progress")
    taken = await dead.take(batch.id)
    assert taken is not None
    clock.now_s += LEASE_S + 1
    make_worker().start()
    done = await until(database, batch.id, "completed")
    lines = await content(database, done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"id-{x}" for x in range(20)]
    late = leases.Results(b"late\n", b"", 4, 0)
    accepted = await database.write(lambda c: leases.complete(c, taken, dead.owner, late, clock()))
    assert not accepted


async def test_cancelling_keeps_what_is_done_and_drops_what_runs(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    batch = await submit(database, lines_of(list(range(40))), clock)
    half = make_worker()
    await half.turn()
    await until(database, batch.id, "in_progress")
    portion = await half.take(batch.id)
    assert portion is not None
    results = leases.Results(b'{"custom_id": "id-0"}\n', b"", 4, 0)
    await half.complete(portion, results)
    await half.stop()
    squares.gate = asyncio.Event()
    make_worker().start()
    assert await database.write(lambda c: batches.cancel(c, batch.id, clock()))
    done = await until(database, batch.id, "cancelled")
    assert await content(database, done.output_file_id) == [{"custom_id": "id-0"}]
    assert squares.ran == []
    assert not await database.write(lambda c: batches.cancel(c, batch.id, clock()))


async def test_rows_that_come_too_late_are_told_so(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    squares.gate = asyncio.Event()
    batch = await submit(database, lines_of(list(range(10))), clock, window_s=60.0)
    make_worker().start()
    await until(database, batch.id, "in_progress")
    clock.now_s += 61
    done = await until(database, batch.id, "expired")
    assert done.output_file_id is None
    bad = await content(database, done.error_file_id)
    assert [line["custom_id"] for line in bad] == [f"id-{x}" for x in range(10)]
    assert {line["error"]["code"] for line in bad} == {"batch_expired"}
    assert (done.completed, done.failed) == (0, 10)


async def test_a_row_that_kills_its_worker_fails_alone(
    database: Database, make_worker: Make, clock: Clock
) -> None:
    """Worker after worker dies over one row; its neighbours are answered all the same."""
    batch = await submit(database, lines_of([0, 1, 2, 3]), clock)
    worker = make_worker()
    await worker.turn()
    await until(database, batch.id, "in_progress")
    deaths = 0
    while (portion := await worker.take(batch.id)) is not None:
        if leases.hopeless(portion):
            await database.write(lambda c: leases.release(c, worker.owner))
            break
        if b"id-2" in portion.input:
            deaths += 1
            clock.now_s += LEASE_S + 1
        else:
            await worker.complete(portion, leases.Results(b"{}\n", b"", 1, 0))
    assert deaths == 2 * leases.SUSPECT_AFTER
    make_worker().start()
    done = await until(database, batch.id, "completed")
    assert (done.completed, done.failed) == (3, 1)
    (bad,) = await content(database, done.error_file_id)
    assert (bad["custom_id"], bad["error"]["code"]) == ("id-2", "worker_lost")


async def test_progress_is_measured_over_all_workers(
    database: Database, make_worker: Make, clock: Clock
) -> None:
    batch = await submit(database, lines_of(list(range(20))), clock)
    worker = make_worker()
    await worker.turn()
    begun = await until(database, batch.id, "in_progress")
    first, _second = await worker.take(batch.id), await worker.take(batch.id)
    assert first is not None
    clock.now_s += 2.0
    await worker.complete(first, leases.Results(b"x\n", b"", 4, 0))
    progress = await database.read(lambda c: batches.progress(c, begun, clock()))
    assert progress == batches.Progress(rows_per_s=2.0, running=4)


async def test_batches_that_end_while_another_is_dropped_do_not_stop_the_worker(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    squares.gate = asyncio.Event()
    worker = make_worker()
    ids = []
    for first in (0, 10):
        ids.append((await submit(database, lines_of([first, first + 1]), clock)).id)
        await worker.turn()
        await until(database, ids[-1], "in_progress")
    await worker.turn()
    while len(worker._held) < len(ids):  # both wait in their rows
        await asyncio.sleep(0)
    first, second = (worker._jobs[each] for each in ids)

    async def leave_together() -> None:
        await asyncio.wait({first})
        second.cancel()

    leaving = asyncio.ensure_future(leave_together())
    for each in ids:
        assert await database.write(lambda c, each=each: batches.cancel(c, each, clock()))
    await worker.turn()
    await leaving
    assert first.cancelled()
    assert second.cancelled()
    clock.now_s += LEASE_S + 1  # nobody gave the second one's leases back
    worker.start()
    for each in ids:
        await until(database, each, "cancelled")


async def test_a_surprise_does_not_end_the_worker(
    database: Database,
    make_worker: Make,
    clock: Clock,
    squares: Squares,
    caplog: pytest.LogCaptureFixture,
) -> None:
    squares.surprises = [RuntimeError("surprise")]
    batch = await submit(database, lines_of([1, 2]), clock)
    make_worker().start()
    await until(database, batch.id, "completed")
    assert "surprise" in caplog.text


async def test_a_batch_whose_endpoint_is_gone_fails_and_says_so(
    database: Database, make_worker: Make, clock: Clock, squares: Squares
) -> None:
    squares.known = False
    batch = await submit(database, lines_of([1, 2]), clock)
    make_worker().start()
    failed = await until(database, batch.id, "failed")
    assert failed.errors is not None
    assert [(e["code"], e["param"]) for e in failed.errors] == [("invalid_endpoint", "endpoint")]
    assert failed.errors[0]["message"] == f"nothing answers {URL}"


async def test_a_batch_that_is_never_validated_expires(
    database: Database, make_worker: Make, clock: Clock
) -> None:
    batch = await submit(database, lines_of([1, 2]), clock, window_s=60.0)
    gone = validation.Holder("gone", clock, 1000.0)
    claimed = await database.write(lambda c: validation.claim(c, gone))
    assert claimed is not None
    clock.now_s += 61
    make_worker().start()
    expired = await until(database, batch.id, "expired")
    assert expired.expired_at == clock.now_s
    assert (expired.total, expired.output_file_id, expired.error_file_id) == (0, None, None)
    await database.apart(lambda: validation.validate(database, claimed, gone, 4))  # comes too late
    assert (await database.read(lambda c: batches.find(c, batch.id))) == expired
