"""The end of a batch: its portions' results become files, in one transaction.

A batch is either unfinished, with its results in portions, or ended, with its files: no crash
leaves it in between, and any worker may take the last step. Every function takes the connection of
the caller's transaction.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, insert, literal, select, update

from services.batch_api import files, jsonl, leases
from services.batch_api.batches import Batch, find
from services.batch_api.leases import Portion, Results
from services.database.tables import batches, chunks, inputs, portions

_EXPIRE_AT_ONCE = 64
_NOT_DONE = portions.c.state != "done"


def due(batch: Batch, now_s: float) -> bool:
    """Whether ``step`` has something to do for a batch."""
    if batch.status == "in_progress":
        return batch.completed + batch.failed >= batch.total or now_s > batch.expires_at
    if batch.status == "validating":
        return now_s > batch.expires_at
    return batch.status in ("finalizing", "cancelling")


def step(connection: Connection, batch_id: str, now_s: float) -> bool:
    """Take the batch's next step to its end, if one is due; whether another is due at once."""
    connection.execute(
        select(batches.c.id).where(batches.c.id == batch_id).with_for_update()
    ).one_or_none()
    batch = find(connection, batch_id)
    if batch is None:
        return False
    if batch.status == "validating" and now_s > batch.expires_at:
        # The worker that validates it loses its lease; no row was checked to the end.
        _set(connection, batch_id, owner=None, lease_until=None)
        _end(connection, batch, "expired", now_s)
    elif batch.status == "in_progress":
        expired = now_s > batch.expires_at
        if _count(connection, batch_id, _NOT_DONE) and not expired:
            return False
        _set(connection, batch_id, status="finalizing", finalizing_at=now_s)
        return True
    elif batch.status == "finalizing":
        if _expire_some(connection, batch, now_s):
            return True
        ended = "completed" if batch.expired_at is None else "expired"
        _end(connection, batch, ended, now_s)
    elif batch.status == "cancelling":
        running = (portions.c.state == "leased") & (portions.c.lease_until >= now_s)
        if not _count(connection, batch_id, running):
            connection.execute(delete(portions).where(portions.c.batch_id == batch_id, _NOT_DONE))
            _end(connection, batch, "cancelled", now_s)
    return False


def _expire_some(connection: Connection, batch: Batch, now_s: float) -> bool:
    """Give some of the rows that were not run in time their error; False when none is left.

    A worker that still runs them has lost their portion.
    """
    same = (inputs.c.batch_id == portions.c.batch_id) & (inputs.c.first_row == portions.c.first_row)
    late = connection.execute(
        select(portions.c.first_row, portions.c.rows, inputs.c.content, portions.c.lost)
        .join(inputs, same)
        .where(portions.c.batch_id == batch.id, _NOT_DONE)
        .order_by(portions.c.first_row)
        .limit(_EXPIRE_AT_ONCE)
    ).all()
    for first_row, rows, content, lost in late:
        portion = Portion(batch.id, first_row, rows, bytes(content), lost)
        connection.execute(
            update(portions)
            .where(portions.c.batch_id == batch.id, portions.c.first_row == first_row)
            .values(state="leased", owner="expiry")
        )
        leases.complete(connection, portion, "expiry", _expired(portion), now_s)
    if late and batch.expired_at is None:
        _set(connection, batch.id, expired_at=now_s)
    return bool(late)


def _expired(portion: Portion) -> Results:
    message = "this request could not be run before the completion window ended"
    errors = [
        jsonl.unanswered(
            portion.batch_id, portion.first_row + index, jsonl.parse(line)[0],
            "batch_expired", message,
        )
        for index, line in enumerate(portion.input.split(b"\n"))
    ]  # fmt: skip
    return Results(b"", b"".join(errors), 0, len(errors))


def _end(connection: Connection, batch: Batch, status: str, now_s: float) -> None:
    output = _file_of(connection, batch, portions.c.output, "output", now_s)
    errors = _file_of(connection, batch, portions.c.errors, "error", now_s)
    leases.drop(connection, batch.id)
    _set(
        connection,
        batch.id,
        status=status,
        output_file_id=output,
        error_file_id=errors,
        **{f"{status}_at": now_s},
    )


def _file_of(
    connection: Connection, batch: Batch, column: ColumnElement[bytes], kind: str, now_s: float
) -> str | None:
    """Make a file of one column of a batch's portions, in input order; None when it is empty."""
    some = (portions.c.batch_id == batch.id) & column.is_not(None)
    if not connection.execute(select(func.count()).select_from(portions).where(some)).scalar():
        return None
    file_id = files.begin(connection, now_s)
    connection.execute(
        insert(chunks).from_select(
            ["file_id", "position", "content"],
            select(literal(file_id), portions.c.first_row, column).where(some),
        )
    )
    name = f"{batch.id}_{kind}.jsonl"
    files.end(connection, file_id, name, "batch_output", batch.output_expires_s)
    return file_id


def _count(connection: Connection, batch_id: str, which: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(portions)
    return connection.execute(query.where(portions.c.batch_id == batch_id, which)).scalar_one()


def _set(connection: Connection, batch_id: str, **values: object) -> None:
    connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))
