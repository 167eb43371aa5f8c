"""Files in the database: uploaded piece by piece, read piece by piece.

Every function takes the connection of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from services.database.tables import chunks, files, new_id

_UPLOAD_LIMIT_S = 24 * 3600.0
_REMOVE_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class File:
    """A complete file. Instants are seconds since 1970; without ``expires_at`` it is kept."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None


_COLUMNS = tuple(files.c[name] for name in File.__dataclass_fields__)


def begin(connection: Connection, now_s: float) -> str:
    """Begin an upload and return the file's id; the file is invisible before ``end``."""
    file_id = new_id("file-", now_s)
    connection.execute(
        insert(files).values(
            id=file_id, filename="", purpose="", bytes=0, created_at=now_s, status="uploading"
        )
    )
    return file_id


def append(connection: Connection, file_id: str, position: int, content: bytes) -> None:
    """Add one piece of content; positions grow, and need not be dense."""
    connection.execute(insert(chunks).values(file_id=file_id, position=position, content=content))


def end(
    connection: Connection,
    file_id: str,
    filename: str,
    purpose: str,
    expires_after_s: float | None = None,
) -> File:
    """Make an uploaded file visible; without ``expires_after_s`` it is kept for good."""
    size = func.coalesce(func.sum(func.length(chunks.c.content)), 0)
    total = connection.execute(select(size).where(chunks.c.file_id == file_id)).scalar_one()
    row = connection.execute(
        update(files)
        .where(files.c.id == file_id)
        .values(
            filename=filename,
            purpose=purpose,
            bytes=total,
            status="processed",
            expires_at=None if expires_after_s is None else files.c.created_at + expires_after_s,
        )
        .returning(*_COLUMNS)
    ).one()
    return File(*row)


def find(connection: Connection, file_id: str) -> File | None:
    """A complete file."""
    row = connection.execute(
        select(*_COLUMNS).where(files.c.id == file_id, files.c.status == "processed")
    ).one_or_none()
    return None if row is None else File(*row)


def page(
    connection: Connection, *, after: str | None, limit: int, purpose: str | None, newest: bool
) -> list[File]:
    """Complete files in order of creation."""
    query = select(*_COLUMNS).where(files.c.status == "processed").limit(limit)
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    if after is not None:
        query = query.where(files.c.id < after if newest else files.c.id > after)
    query = query.order_by(files.c.id.desc() if newest else files.c.id)
    return [File(*row) for row in connection.execute(query)]


def remove(connection: Connection, file_id: str) -> bool:
    """Delete a file and its content; False when there is none."""
    connection.execute(delete(chunks).where(chunks.c.file_id == file_id))
    return connection.execute(delete(files).where(files.c.id == file_id)).rowcount > 0


def chunk_after(
    connection: Connection, file_id: str, position: int | None
) -> tuple[int, bytes] | None:
    """The next piece of a file's content and its position; None at the end."""
    query = select(chunks.c.position, chunks.c.content).where(chunks.c.file_id == file_id)
    if position is not None:
        query = query.where(chunks.c.position > position)
    row = connection.execute(query.order_by(chunks.c.position).limit(1)).one_or_none()
    return row and (row[0], bytes(row[1]))


def content(connection: Connection, file_id: str) -> Iterator[bytes]:
    """The content of a file, piece by piece, within one transaction."""
    position: int | None = None
    while (chunk := chunk_after(connection, file_id, position)) is not None:
        position, piece = chunk
        yield piece


def remove_stale(connection: Connection, now_s: float) -> int:
    """Delete expired files and uploads abandoned long ago; returns how many."""
    abandoned = (files.c.status == "uploading") & (files.c.created_at < now_s - _UPLOAD_LIMIT_S)
    stale = connection.execute(
        select(files.c.id).where(or_(files.c.expires_at < now_s, abandoned)).limit(_REMOVE_AT_ONCE)
    ).scalars()
    return sum(remove(connection, file_id) for file_id in list(stale))
