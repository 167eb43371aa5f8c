"""From an uploaded file to portions: every line checked, the rows cut into pieces of work.

Runs in a thread, under a lease on the batch, a piece of the file at a time. A validator that dies
leaves portions that nobody can take (the batch is not ``in_progress``); the next one starts afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event

import orjson
from sqlalchemy import Connection, or_, select, update

from services.batch_api import files, leases
from services.batch_api.batches import Batch, find
from services.batch_api.cutter import Cutter
from services.batch_api.jsonl import MAX_LINES, Checker, Problem, split
from services.batch_api.leases import Portion
from services.database.connection import Database
from services.database.tables import batches
from turnout.errors import PayloadTooLarge

_MAX_PROBLEMS = 100
_COMMIT_BYTES = 4 * 1024 * 1024


class LeaseLost(Exception):
    """Another worker validates this batch now, it was cancelled, or this worker stops."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who validates, by which clock, for how long at a time; and the word to leave off."""

    owner: str
    clock: Callable[[], float]
    lease_s: float
    stopping: Event = field(default_factory=Event)


def claim(connection: Connection, holder: Holder) -> Batch | None:
    """Take the oldest batch that waits for validation."""
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
    cutter = Cutter(batch.id, portion_rows)
    checker = Checker(batch.endpoint)
    problems: list[Problem] = []
    try:
        for number, line in enumerate(split(_pieces(database, batch.input_file_id)), 1):
            if not line.strip():
                continue
            problem = checker.check(line, number)
            if problem is not None:
                problems.append(problem)
            elif not problems:
                cutter.add(line)
            if len(problems) >= _MAX_PROBLEMS or cutter.rows > MAX_LINES:
                break
            if cutter.ready_bytes >= _COMMIT_BYTES:
                _commit(database, batch, holder, cutter.take())
    except PayloadTooLarge as error:
        problems.append(Problem("line_too_long", str(error)))
    except LeaseLost:
        return
    if not problems and cutter.rows == 0:
        problems.append(Problem("empty_file", "the input file has no requests, or was deleted"))
    if cutter.rows > MAX_LINES:
        problems.append(Problem("too_many_requests", f"a batch has at most {MAX_LINES} requests"))
    _conclude(database, batch, holder, cutter, problems)


def refuse(database: Database, batch: Batch, holder: Holder, why: str) -> None:
    """Make a claimed batch ``failed`` because nothing here answers its endpoint. Blocks."""
    problem = Problem("invalid_endpoint", why, param="endpoint")
    _conclude(database, batch, holder, Cutter(batch.id, 1), [problem])


def _conclude(
    database: Database, batch: Batch, holder: Holder, cutter: Cutter, problems: list[Problem]
) -> None:
    def work(connection: Connection) -> None:
        _hold(connection, batch.id, holder)
        now_s = holder.clock()
        if problems:
            leases.drop(connection, batch.id)
            errors = orjson.dumps([problem.as_json() for problem in problems]).decode()
            values = {"status": "failed", "failed_at": now_s, "errors": errors}
        else:
            leases.add(connection, cutter.take(everything=True))
            values = {"status": "in_progress", "in_progress_at": now_s, "total": cutter.rows}
        connection.execute(
            update(batches)
            .where(batches.c.id == batch.id)
            .values(**values, owner=None, lease_until=None)
        )

    try:
        database.write_now(work)
    except LeaseLost:
        return


def _commit(database: Database, batch: Batch, holder: Holder, ready: list[Portion]) -> None:
    def work(connection: Connection) -> None:
        _hold(connection, batch.id, holder)
        leases.add(connection, ready)

    database.write_now(work)


def _hold(connection: Connection, batch_id: str, holder: Holder) -> None:
    """Renew the lease within the transaction that relies on it."""
    if holder.stopping.is_set():
        raise LeaseLost
    mine = connection.execute(
        update(batches)
        .where(
            batches.c.id == batch_id,
            batches.c.owner == holder.owner,
            batches.c.status == "validating",
        )
        .values(lease_until=holder.clock() + holder.lease_s)
    )
    if mine.rowcount != 1:
        raise LeaseLost


def _pieces(database: Database, file_id: str) -> Iterator[bytes]:
    """A file's content, each piece read in a transaction of its own."""
    position: int | None = None
    while True:
        found = database.read_now(lambda c, at=position: files.chunk_after(c, file_id, at))
        if found is None:
            return
        position, piece = found
        yield piece
