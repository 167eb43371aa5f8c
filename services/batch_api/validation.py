"""Validation of an uploaded file: every line is checked, the rows are cut into portions.

Runs in a thread, under a lease on the batch, a piece of the file at a time. A validator that dies
leaves portions that nobody can take (the batch is not ``in_progress``); the next one starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event

import orjson
from sqlalchemy import Connection, or_, select, update

from services.batch_api import files, leases
from services.batch_api.batches import Batch, find
from services.batch_api.jsonl import MAX_LINES, LineChecker, Problem, split
from services.batch_api.leases import Portion
from services.database.connection import Database
from services.database.tables import batches
from turnout.errors import PayloadTooLarge

_PORTION_BYTES = 1024 * 1024
_MAX_PROBLEMS = 100
_COMMIT_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class PortionBuilder:
    """Collects rows into portions of at most ``portion_rows`` rows and about ``_PORTION_BYTES``.

    Attributes:
        rows: rows so far.
        ready_bytes: size of the portions that ``take`` would return.
    """

    batch_id: str
    portion_rows: int
    rows: int = 0
    ready_bytes: int = 0
    _lines: list[bytes] = field(default_factory=list)
    _bytes: int = 0
    _full: list[Portion] = field(default_factory=list)

    def add(self, line: bytes) -> None:
        """Add the next row."""
        self._lines.append(line)
        self._bytes += len(line)
        self.rows += 1
        if len(self._lines) >= self.portion_rows or self._bytes >= _PORTION_BYTES:
            self._close()

    def take(self, *, everything: bool = False) -> list[Portion]:
        """The portions that are full; at the end of the file, the last one too."""
        if everything:
            self._close()
        portions, self._full, self.ready_bytes = self._full, [], 0
        return portions

    def _close(self) -> None:
        if self._lines:
            count = len(self._lines)
            first = self.rows - count
            self._full.append(Portion(self.batch_id, first, count, b"\n".join(self._lines)))
            self.ready_bytes += self._bytes
            self._lines, self._bytes = [], 0


class LeaseLost(Exception):
    """Another worker holds this batch now, it was cancelled, or this worker stops."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The worker that validates.

    Attributes:
        owner: its name.
        clock: seconds since 1970.
        lease_s: how long a batch is its own without a sign of life.
        stopping: set when it must stop.
    """

    owner: str
    clock: Callable[[], float]
    lease_s: float
    stopping: Event = field(default_factory=Event)


def claim(connection: Connection, holder: Holder) -> Batch | None:
    """Lease the oldest batch that waits for validation; None when there is none."""
    now_s = holder.clock()
    free = or_(batches.c.owner.is_(None), batches.c.lease_until < now_s)
    batch_id = connection.execute(
        select(batches.c.id)
        .where(batches.c.status == "validating", free)
        .order_by(batches.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar()
    if batch_id is None:
        return None
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(owner=holder.owner, lease_until=now_s + holder.lease_s)
    )
    leases.drop(connection, batch_id)
    return find(connection, batch_id)


def validate(database: Database, batch: Batch, holder: Holder, portion_rows: int) -> None:
    """Check a claimed batch's file and make it ``in_progress``, or ``failed`` with its problems.

    Blocks; call it in a thread.
    """
    builder = PortionBuilder(batch.id, portion_rows)
    checker = LineChecker(batch.endpoint)
    problems: list[Problem] = []
    try:
        for number, line in enumerate(split(_pieces(database, batch.input_file_id)), 1):
            if not line.strip():
                continue
            problem = checker.check(line, number)
            if problem is not None:
                problems.append(problem)
            elif not problems:
                builder.add(line)
            if len(problems) >= _MAX_PROBLEMS or builder.rows > MAX_LINES:
                break
            if builder.ready_bytes >= _COMMIT_BYTES:
                _commit(database, batch, holder, builder.take())
    except PayloadTooLarge as error:
        problems.append(Problem("line_too_long", str(error)))
    except LeaseLost:
        return
    if not problems and builder.rows == 0:
        problems.append(Problem("empty_file", "the input file has no requests, or was deleted"))
    if builder.rows > MAX_LINES:
        problems.append(Problem("too_many_requests", f"a batch has at most {MAX_LINES} requests"))
    _conclude(database, batch, holder, builder, problems)


def fail(database: Database, batch: Batch, holder: Holder, reason: str) -> None:
    """Make a claimed batch ``failed`` because its endpoint is unknown here. Blocks."""
    problem = Problem("invalid_endpoint", reason, param="endpoint")
    _conclude(database, batch, holder, PortionBuilder(batch.id, 1), [problem])


def _conclude(
    database: Database,
    batch: Batch,
    holder: Holder,
    builder: PortionBuilder,
    problems: list[Problem],
) -> None:
    def work(connection: Connection) -> None:
        _renew(connection, batch.id, holder)
        now_s = holder.clock()
        if problems:
            leases.drop(connection, batch.id)
            errors = orjson.dumps([problem.as_json() for problem in problems]).decode()
            values = {"status": "failed", "failed_at": now_s, "errors": errors}
        else:
            leases.add(connection, builder.take(everything=True))
            values = {"status": "in_progress", "in_progress_at": now_s, "total": builder.rows}
        connection.execute(
            update(batches)
            .where(batches.c.id == batch.id)
            .values(**values, owner=None, lease_until=None)
        )

    try:
        database.write_now(work)
    except LeaseLost:
        return


def _commit(database: Database, batch: Batch, holder: Holder, portions: list[Portion]) -> None:
    def work(connection: Connection) -> None:
        _renew(connection, batch.id, holder)
        leases.add(connection, portions)

    database.write_now(work)


def _renew(connection: Connection, batch_id: str, holder: Holder) -> None:
    """Renew the lease within the transaction that relies on it."""
    if holder.stopping.is_set():
        raise LeaseLost
    renewed = connection.execute(
        update(batches)
        .where(
            batches.c.id == batch_id,
            batches.c.owner == holder.owner,
            batches.c.status == "validating",
        )
        .values(lease_until=holder.clock() + holder.lease_s)
    )
    if renewed.rowcount != 1:
        raise LeaseLost


def _pieces(database: Database, file_id: str) -> Iterator[bytes]:
    """A file's content, each piece read in a transaction of its own."""
    position: int | None = None
    while True:
        chunk = database.read_now(lambda c, at=position: files.chunk_after(c, file_id, at))
        if chunk is None:
            return
        position, piece = chunk
        yield piece
