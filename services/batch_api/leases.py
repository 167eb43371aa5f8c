"""Leases on portions of batches: each portion is one worker's for a while, and done once.

A worker leases a portion, renews the lease while it runs the rows, and stores all results of the
portion at once: in one transaction, and only if the portion is still its own. A worker that dies
stops renewing; after the lease another takes the portion and runs it again. So a row may *run*
twice, but has exactly one *result*, whatever the clocks of the machines say.

Every function takes the connection of the caller's transaction, and the present instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update

from services.database.tables import batches, inputs, portions

SUSPECT_AFTER = 4


@dataclass(frozen=True, slots=True)
class Portion:
    """Consecutive rows of a batch, for one worker.

    Attributes:
        first_row: index of its first row in the batch; identifies it there.
        input: its input lines, joined by newlines.
        lost: leases on it that ran out, as when a worker died.
    """

    batch_id: str
    first_row: int
    rows: int
    input: bytes
    lost: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """Batch and first row, which identify it."""
        return self.batch_id, self.first_row


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a portion: JSON lines in input order, each ending in a newline."""

    output: bytes
    errors: bytes
    completed: int
    failed: int


def add(connection: Connection, new: Sequence[Portion]) -> None:
    """Add portions that wait to be leased."""
    if not new:
        return
    keys = [{"batch_id": portion.batch_id, "first_row": portion.first_row} for portion in new]
    waiting = {"state": "waiting", "completed": 0, "failed": 0}
    connection.execute(
        insert(portions),
        [
            key | waiting | {"rows": portion.rows, "lost": portion.lost}
            for key, portion in zip(keys, new, strict=True)
        ],
    )
    connection.execute(
        insert(inputs),
        [key | {"content": portion.input} for key, portion in zip(keys, new, strict=True)],
    )


def claim(
    connection: Connection, batch_id: str, owner: str, now_s: float, lease_s: float
) -> Portion | None:
    """Lease the first portion of a batch that nobody holds; None when there is none.

    A portion whose workers keep dying is cut into single rows, so that a row that kills its worker
    is isolated (``suspect``) and does not take its neighbours with it.
    """
    lapsed = and_(portions.c.state == "leased", portions.c.lease_until < now_s)
    row = connection.execute(
        select(portions.c.first_row, portions.c.rows, portions.c.lost, portions.c.state)
        .join(batches, batches.c.id == portions.c.batch_id)
        .where(
            portions.c.batch_id == batch_id,
            batches.c.status == "in_progress",
            or_(portions.c.state == "waiting", lapsed),
        )
        .order_by(portions.c.first_row)
        .limit(1)
        .with_for_update(of=portions, skip_locked=True)
    ).one_or_none()  # fmt: skip
    if row is None:
        return None
    lost = row.lost + (row.state == "leased")
    mine = (inputs.c.batch_id == batch_id) & (inputs.c.first_row == row.first_row)
    content = connection.execute(select(inputs.c.content).where(mine)).scalar_one()
    portion = Portion(batch_id, row.first_row, row.rows, bytes(content), lost)
    if suspect(portion) and portion.rows > 1:
        portion, *others = cut(portion)
        add(connection, others)
        connection.execute(update(inputs).where(mine).values(content=portion.input))
    connection.execute(
        update(portions)
        .where(portions.c.batch_id == batch_id, portions.c.first_row == row.first_row)
        .values(
            state="leased",
            owner=owner,
            lease_until=now_s + lease_s,
            lost=lost,
            rows=portion.rows,
        )
    )
    return portion


def suspect(portion: Portion) -> bool:
    """Whether so many workers died while running a portion that it must run alone."""
    return portion.lost >= SUSPECT_AFTER


def hopeless(portion: Portion) -> bool:
    """Whether so many workers died while running a single row that it must not run again."""
    return portion.rows == 1 and portion.lost >= 2 * SUSPECT_AFTER


def cut(portion: Portion) -> list[Portion]:
    """The rows of a portion as portions of their own."""
    return [
        Portion(portion.batch_id, portion.first_row + index, 1, line, portion.lost)
        for index, line in enumerate(portion.input.split(b"\n"))
    ]


def renew(
    connection: Connection,
    owner: str,
    held: Sequence[tuple[str, int]],
    now_s: float,
    lease_s: float,
) -> set[tuple[str, int]]:
    """Renew the leases on these portions; returns those still the owner's and worth running.

    A portion is no longer worth running when its batch was cancelled or has expired.
    """
    if not held:
        return set()
    connection.execute(
        update(portions)
        .where(
            portions.c.batch_id == bindparam("b_batch"),
            portions.c.first_row == bindparam("b_row"),
            portions.c.owner == owner,
            portions.c.state == "leased",
        )
        .values(lease_until=now_s + lease_s),
        [{"b_batch": batch_id, "b_row": first_row} for batch_id, first_row in held],
    )
    mine = connection.execute(
        select(portions.c.batch_id, portions.c.first_row)
        .join(batches, batches.c.id == portions.c.batch_id)
        .where(
            portions.c.owner == owner,
            portions.c.state == "leased",
            batches.c.status == "in_progress",
        )
    )
    return {(batch_id, first_row) for batch_id, first_row in mine} & set(held)


def complete(
    connection: Connection, portion: Portion, owner: str, results: Results, now_s: float
) -> bool:
    """Store a portion's results; False, and no change, when it is no longer the owner's."""
    done = connection.execute(
        update(portions)
        .where(
            portions.c.batch_id == portion.batch_id,
            portions.c.first_row == portion.first_row,
            portions.c.owner == owner,
            portions.c.state == "leased",
            # The portion may have been larger under an earlier lease of the same owner.
            portions.c.lost == portion.lost,
            portions.c.rows == portion.rows,
        )
        .values(
            state="done",
            owner=None,
            lease_until=None,
            output=results.output or None,
            errors=results.errors or None,
            completed=results.completed,
            failed=results.failed,
            done_at=now_s,
        )
    )
    if done.rowcount != 1:
        return False
    connection.execute(
        delete(inputs).where(
            inputs.c.batch_id == portion.batch_id, inputs.c.first_row == portion.first_row
        )
    )
    connection.execute(
        update(batches)
        .where(batches.c.id == portion.batch_id)
        .values(
            completed=batches.c.completed + results.completed,
            failed=batches.c.failed + results.failed,
        )
    )
    return True


def drop(connection: Connection, batch_id: str) -> None:
    """Remove every portion of a batch, with its input."""
    connection.execute(delete(portions).where(portions.c.batch_id == batch_id))
    connection.execute(delete(inputs).where(inputs.c.batch_id == batch_id))


def release(
    connection: Connection, owner: str, keys: Sequence[tuple[str, int]] | None = None
) -> None:
    """End the leases on these portions, or all leases of an owner, on batches too."""
    mine = (portions.c.owner == owner) & (portions.c.state == "leased")
    freed = {"state": "waiting", "owner": None, "lease_until": None}
    if keys is None:
        connection.execute(
            update(batches).where(batches.c.owner == owner).values(owner=None, lease_until=None)
        )
        connection.execute(update(portions).where(mine).values(freed))
        return
    for batch_id, first_row in keys:
        same = (portions.c.batch_id == batch_id) & (portions.c.first_row == first_row)
        connection.execute(update(portions).where(mine, same).values(freed))
