"""The rows of batches in the database: create, find, list, cancel, measure progress.

The life of a batch::

    validating ─► in_progress ─► finalizing ─► completed
        │             │  │           └───────► expired      (completion window over)
        ▼             │  └─► cancelling ─────► cancelled
      failed          ▼
                 (portions are leased, run and done: see leases.py)

Every function takes the connection of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, case, func, insert, select, update

from services.database.tables import batches, new_id, portions

ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
_RATE_OVER_S = 60.0
_MOST_ACTIVE = 1000


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. Instants are seconds since 1970; the names are OpenAI's."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str]
    status: str
    errors: list[dict[str, Any]] | None
    output_file_id: str | None
    error_file_id: str | None
    total: int
    completed: int
    failed: int
    created_at: float
    expires_at: float
    output_expires_s: float | None
    in_progress_at: float | None
    finalizing_at: float | None
    completed_at: float | None
    failed_at: float | None
    expired_at: float | None
    cancelling_at: float | None
    cancelled_at: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The present speed of a batch, over all workers.

    Attributes:
        rows_per_s: results per second over the last minute (or since the batch began).
        running: rows in leased portions.
    """

    rows_per_s: float
    running: int


_NAMES = Batch.__dataclass_fields__
_COLUMNS = tuple(batches.c[name] for name in _NAMES)


def create(
    connection: Connection,
    *,
    endpoint: str,
    input_file_id: str,
    completion_window: str,
    window_s: float,
    metadata: Mapping[str, str],
    now_s: float,
    output_expires_s: float | None = None,
) -> Batch:
    """Create a batch that waits for validation."""
    row = connection.execute(
        insert(batches)
        .values(
            id=new_id("batch_", now_s),
            endpoint=endpoint,
            input_file_id=input_file_id,
            completion_window=completion_window,
            metadata=orjson.dumps(dict(metadata)).decode(),
            status="validating",
            total=0,
            completed=0,
            failed=0,
            created_at=now_s,
            expires_at=now_s + window_s,
            output_expires_s=output_expires_s,
        )
        .returning(*_COLUMNS)
    ).one()
    return _batch(row)


def find(connection: Connection, batch_id: str) -> Batch | None:
    """A batch by id."""
    row = connection.execute(select(*_COLUMNS).where(batches.c.id == batch_id)).one_or_none()
    return None if row is None else _batch(row)


def page(connection: Connection, *, after: str | None, limit: int) -> list[Batch]:
    """Batches, the newest first."""
    query = select(*_COLUMNS).order_by(batches.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(batches.c.id < after)
    return [_batch(row) for row in connection.execute(query)]


def active(connection: Connection) -> list[Batch]:
    """Batches that have not ended, the oldest first."""
    query = select(*_COLUMNS).where(batches.c.status.in_(ACTIVE)).order_by(batches.c.id)
    return [_batch(row) for row in connection.execute(query.limit(_MOST_ACTIVE))]


def cancel(connection: Connection, batch_id: str, now_s: float) -> bool:
    """Begin to cancel a batch; False when it is too late for that."""
    cancelled = connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.status.in_(("validating", "in_progress")))
        .values(status="cancelling", cancelling_at=now_s)
    )
    return cancelled.rowcount > 0


def progress(connection: Connection, batch: Batch, now_s: float) -> Progress | None:
    """The present speed of a batch; None before it began and after it ended."""
    if batch.status != "in_progress" or batch.in_progress_at is None:
        return None
    since_s = max(now_s - _RATE_OVER_S, batch.in_progress_at)
    leased = (portions.c.state == "leased") & (portions.c.lease_until >= now_s)
    done = (portions.c.state == "done") & (portions.c.done_at >= since_s)
    rows, running = connection.execute(
        select(
            func.sum(case((done, portions.c.rows), else_=0)),
            func.sum(case((leased, portions.c.rows), else_=0)),
        ).where(portions.c.batch_id == batch.id)
    ).one()
    return Progress((rows or 0) / max(now_s - since_s, 1e-3), running or 0)


def counts(connection: Connection) -> tuple[dict[str, int], int]:
    """Number of batches by status, and rows of unfinished batches that have no result yet."""
    jobs = connection.execute(select(batches.c.status, func.count()).group_by(batches.c.status))
    left = batches.c.total - batches.c.completed - batches.c.failed
    pending = connection.execute(
        select(func.sum(left)).where(batches.c.status.in_(("in_progress", "finalizing")))
    ).scalar()
    return {status: number for status, number in jobs}, int(pending or 0)


def _batch(row: Row[Any]) -> Batch:
    values = dict(zip(_NAMES, row, strict=True))
    values["metadata"] = orjson.loads(values["metadata"])
    values["errors"] = orjson.loads(values["errors"]) if values["errors"] else None
    return Batch(**values)
