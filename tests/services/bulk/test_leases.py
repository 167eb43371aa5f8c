"""Leases under any interleaving of workers that take, renew, hand in, stop and die."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from conftest import URL, Clock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.bulk import batches, endings, files, leases
from services.bulk.database import Database
from services.bulk.leases import Portion, Results
from services.bulk.tables import batches as batch_table

LEASE_S = 10.0
WORKERS = ("ann", "bob", "cy")


class Leases(RuleBasedStateMachine):
    """Three workers on one batch; a model of who may hand in what."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="turnout-leases-"))
        self.database = Database(f"sqlite:///{self.folder}/t.db")
        self.database.open()
        self.clock = Clock()
        self.held: dict[str, dict[int, Portion]] = {name: {} for name in WORKERS}
        self.ghosts: list[tuple[str, Portion]] = []  # still running in a worker that lost them
        self.until: dict[int, tuple[str, float]] = {}  # the model: who holds which row, till when
        self.results: dict[int, bytes] = {}

    def teardown(self) -> None:
        self.database.close()
        rmtree(self.folder)

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
                batch_table.update().values(
                    status="in_progress", total=at, in_progress_at=self.clock()
                )
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
            free = [row for row, (_, until_s) in self.until.items() if until_s < now_s]
            assert not free or all(row in self.results for row in free)
            return
        for row in range(got.first_row, got.first_row + got.rows):
            assert row not in self.results, "a row that has its result was handed out"
            holder = self.until.get(row)
            assert holder is None or holder[1] < now_s, "a portion that is held was handed out"
            self.until[row] = (worker, now_s + LEASE_S)
        for name in WORKERS:
            lost = self.held[name].pop(got.first_row, None)
            if lost is not None:
                self.ghosts.append((name, lost))
        self.held[worker][got.first_row] = got

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        held = [portion.key for portion in self.held[worker].values()]
        kept = self.database.write_now(
            lambda c: leases.renew(c, worker, held, self.clock(), LEASE_S)
        )
        assert kept == set(held), "nobody took them, so they are still its own"
        for portion in self.held[worker].values():
            for row in range(portion.first_row, portion.first_row + portion.rows):
                self.until[row] = (worker, self.clock() + LEASE_S)

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def hand_in(self, worker: str, data: st.DataObject) -> None:
        if not self.held[worker]:
            return
        first_row = data.draw(st.sampled_from(sorted(self.held[worker])))
        portion = self.held[worker].pop(first_row)
        assert self._complete(worker, portion)
        for row, line in enumerate(portion.input.split(b"\n"), first_row):
            assert row not in self.results
            self.results[row] = line + b"/" + worker.encode()
            self.until.pop(row, None)

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data())
    def a_late_worker_is_refused(self, data: st.DataObject) -> None:
        worker, portion = self.ghosts.pop(data.draw(st.integers(0, len(self.ghosts) - 1)))
        now_its_own = portion.first_row in self.held[worker]
        if not now_its_own:
            assert not self._complete(worker, portion)

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        self.ghosts += [(worker, portion) for portion in self.held[worker].values()]
        self.held[worker] = {}

    @rule(worker=st.sampled_from(WORKERS))
    def stop(self, worker: str) -> None:
        self.database.write_now(lambda c: leases.release(c, worker))
        self.held[worker] = {}
        self.ghosts = [ghost for ghost in self.ghosts if ghost[0] != worker]
        self.until = {row: held for row, held in self.until.items() if held[0] != worker}

    @rule(seconds=st.sampled_from([1.0, 4.0, LEASE_S + 1]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule()
    def end(self) -> None:
        """Whenever somebody looks, the batch ends if, and only if, every row has its result."""
        self._finish()
        batch = self._batch()
        assert (batch.status == "completed") == (len(self.results) == self.total)
        if batch.status == "completed":
            self._check_output(batch)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "batch_id"):
            assert self._batch().completed == len(self.results)

    def _finish(self) -> None:
        while self.database.write_now(lambda c: endings.step(c, self.batch_id, self.clock())):
            pass

    def _check_output(self, batch: batches.Batch) -> None:
        output = self.database.read_now(
            lambda c: b"".join(files.content(c, batch.output_file_id or ""))
        )
        assert output.splitlines() == [self.results[row] for row in range(self.total)]

    def _complete(self, worker: str, portion: Portion) -> bool:
        lines = [line + b"/" + worker.encode() for line in portion.input.split(b"\n")]
        results = Results(b"\n".join(lines) + b"\n", b"", len(lines), 0)
        return self.database.write_now(
            lambda c: leases.complete(c, portion, worker, results, self.clock())
        )

    def _batch(self) -> batches.Batch:
        found = self.database.read_now(lambda c: batches.find(c, self.batch_id))
        assert found is not None
        return found


TestLeases = Leases.TestCase
TestLeases.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
