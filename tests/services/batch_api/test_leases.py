"""Leases under any interleaving of workers that take, renew, hand in, stop, freeze and die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.batch_api import batches, files, leases
from services.batch_api import finalize as endings
from services.batch_api.leases import Portion, Results
from services.database.connection import Database
from services.database.tables import batches as batch_table
from tests.services.batch_api.conftest import URL, Clock

LEASE_S = 10.0
WORKERS = ("ann", "bob", "cy")


class Leases(RuleBasedStateMachine):
    """Three workers on one batch; a model of who may hand in what.

    Attributes:
        running: what each worker believes is its own.
        frozen: what runs in a worker that stopped renewing, and may hand in late.
        lease: the model, by first row: who took a portion last, which, and until when it is his.
        results: the model, by row.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.clock = Clock()
        self.running: dict[str, dict[int, Portion]] = {name: {} for name in WORKERS}
        self.frozen: list[tuple[str, Portion]] = []
        self.lease: dict[int, tuple[str, Portion, float]] = {}
        self.results: dict[int, bytes] = {}

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=5))
    def begin(self, sizes: list[int]) -> None:
        def work(connection: Any) -> str:
            batch = batches.create(
                connection, endpoint=URL, input_file_id="file-x", completion_window="24h",
                window_s=1e6, metadata={}, now_s=self.clock(),
            )  # fmt: skip
            at, parts = 0, []
            for size in sizes:
                lines = b"\n".join(b"%d" % row for row in range(at, at + size))
                parts.append(Portion(batch.id, at, size, lines))
                at += size
            leases.add(connection, parts)
            connection.execute(
                batch_table.update()
                .where(batch_table.c.id == batch.id)
                .values(status="in_progress", total=at, in_progress_at=self.clock())
            )
            return batch.id

        self.batch_id = self.database.write_now(work)
        self.total = sum(sizes)

    @rule(worker=st.sampled_from(WORKERS))
    def take(self, worker: str) -> None:
        now_s = self.clock()
        got = self.database.write_now(
            lambda c: leases.claim(c, self.batch_id, worker, now_s, LEASE_S)
        )
        if got is None:
            held = {row for row in range(self.total) if self._held(row, now_s)}
            assert held | set(self.results) == set(range(self.total))
            return
        for row in _rows(got):
            assert row not in self.results, "a row that has its result was handed out"
            assert not self._held(row, now_s), "a portion that is held was handed out"
        for name in WORKERS:
            if (lost := self.running[name].pop(got.first_row, None)) is not None:
                self.frozen.append((name, lost))
        self.running[worker][got.first_row] = got
        self.lease[got.first_row] = (worker, got, now_s + LEASE_S)

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        held = [portion.key for portion in self.running[worker].values()]
        kept = self.database.write_now(
            lambda c: leases.renew(c, worker, held, self.clock(), LEASE_S)
        )
        assert kept == set(held), "nobody took them, so they are still its own"
        for portion in self.running[worker].values():
            self.lease[portion.first_row] = (worker, portion, self.clock() + LEASE_S)

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def hand_in(self, worker: str, data: st.DataObject) -> None:
        if not self.running[worker]:
            return
        first_row = data.draw(st.sampled_from(sorted(self.running[worker])))
        assert self._complete(worker, self.running[worker].pop(first_row))

    @precondition(lambda self: self.frozen)
    @rule(data=st.data())
    def hand_in_late(self, data: st.DataObject) -> None:
        """A frozen worker comes back: it is heard only if nobody took its portion meanwhile."""
        worker, portion = self.frozen.pop(data.draw(st.integers(0, len(self.frozen) - 1)))
        last = self.lease.get(portion.first_row)
        still_its_own = last is not None and last[:2] == (worker, portion)
        assert self._complete(worker, portion) == still_its_own

    @rule(worker=st.sampled_from(WORKERS))
    def freeze(self, worker: str) -> None:
        self.frozen += [(worker, portion) for portion in self.running[worker].values()]
        self.running[worker] = {}

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        self.running[worker] = {}
        self.frozen = [late for late in self.frozen if late[0] != worker]

    @rule(worker=st.sampled_from(WORKERS))
    def stop(self, worker: str) -> None:
        self.database.write_now(lambda c: leases.release(c, worker))
        self.die(worker)
        self.lease = {row: held for row, held in self.lease.items() if held[0] != worker}

    @rule(seconds=st.sampled_from([1.0, 4.0, LEASE_S + 1]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule()
    def end(self) -> None:
        """Whenever somebody looks, the batch ends if, and only if, every row has its result."""
        while self.database.write_now(lambda c: endings.step(c, self.batch_id, self.clock())):
            pass
        batch = self._batch()
        assert (batch.status == "completed") == (len(self.results) == self.total)
        if batch.status == "completed":
            output = self.database.read_now(
                lambda c: b"".join(files.content(c, batch.output_file_id or ""))
            )
            assert output.splitlines() == [self.results[row] for row in range(self.total)]

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "batch_id"):
            assert self._batch().completed == len(self.results)

    def _held(self, row: int, now_s: float) -> bool:
        return any(
            row in _rows(portion) and until_s >= now_s
            for _, portion, until_s in self.lease.values()
        )

    def _complete(self, worker: str, portion: Portion) -> bool:
        lines = [line + b"/" + worker.encode() for line in portion.input.split(b"\n")]
        results = Results(b"\n".join(lines) + b"\n", b"", len(lines), 0)
        accepted = self.database.write_now(
            lambda c: leases.complete(c, portion, worker, results, self.clock())
        )
        if accepted:
            for row, line in zip(_rows(portion), lines, strict=True):
                assert row not in self.results, "a row has two results"
                self.results[row] = line
            del self.lease[portion.first_row]
        return accepted

    def _batch(self) -> batches.Batch:
        found = self.database.read_now(lambda c: batches.find(c, self.batch_id))
        assert found is not None
        return found


def _rows(portion: Portion) -> range:
    return range(portion.first_row, portion.first_row + portion.rows)


def test_no_interleaving_loses_a_row_or_answers_it_twice(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/t.db")
    database.open()
    run_state_machine_as_test(
        lambda: Leases(database),
        settings=settings(
            max_examples=100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    database.close()


def test_an_earlier_lease_of_the_same_worker_counts_for_nothing(database: Database) -> None:
    """A stalled worker takes its own portion again, cut to one row: the old run must not count."""
    clock = Clock()
    whole = Portion("batch_x", 0, 2, b"0\n1", leases.SUSPECT_AFTER - 1)

    def begin(connection: Any) -> Portion | None:
        batches.create(
            connection, endpoint=URL, input_file_id="file-x", completion_window="24h",
            window_s=1e6, metadata={}, now_s=clock(),
        )  # fmt: skip
        connection.execute(batch_table.update().values(id="batch_x", status="in_progress", total=2))
        leases.add(connection, [whole])
        return leases.claim(connection, "batch_x", "ann", clock(), LEASE_S)

    assert database.write_now(begin) == whole
    clock.now_s += LEASE_S + 1
    again = database.write_now(lambda c: leases.claim(c, "batch_x", "ann", clock(), LEASE_S))
    assert again == Portion("batch_x", 0, 1, b"0", leases.SUSPECT_AFTER)
    two, one = Results(b"0\n1\n", b"", 2, 0), Results(b"0\n", b"", 1, 0)
    assert not database.write_now(lambda c: leases.complete(c, whole, "ann", two, clock()))
    assert database.write_now(lambda c: leases.complete(c, again, "ann", one, clock()))
