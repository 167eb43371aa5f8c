"""The tables of the gateway's database: files and batches, and the aliases of models.

``migrations/`` makes them; the two must agree (tested).

Content is bytes in rows of at most ``CHUNK_BYTES``, so that replicas that share the database share
the files too and nobody holds a whole file in memory.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

CHUNK_BYTES = 1024 * 1024

metadata = MetaData()

files = Table(
    "bulk_files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("status", String(16), nullable=False),  # uploading, processed
    Column("expires_at", Float),
    Index("bulk_files_by_expiry", "expires_at"),
)

chunks = Table(
    "bulk_chunks",
    metadata,
    Column("file_id", String(64), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)

batches = Table(
    "bulk_batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("metadata", Text, nullable=False),  # JSON
    Column("status", String(16), nullable=False, index=True),
    Column("errors", Text),  # JSON list
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("total", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("in_progress_at", Float),
    Column("finalizing_at", Float),
    Column("completed_at", Float),
    Column("failed_at", Float),
    Column("expired_at", Float),
    Column("cancelling_at", Float),
    Column("cancelled_at", Float),
    Column("owner", String(64)),  # the worker that validates it
    Column("lease_until", Float),
    Column("output_expires_s", Float),  # how long its output and error files are kept
)

# The unit that a worker leases: consecutive rows of one batch, and later their results.
portions = Table(
    "bulk_portions",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("first_row", BigInteger, primary_key=True, autoincrement=False),
    Column("rows", Integer, nullable=False),
    Column("state", String(8), nullable=False),  # waiting, leased, done
    Column("owner", String(64)),
    Column("lease_until", Float),
    Column("lost", Integer, nullable=False),  # leases that ran out
    Column("output", LargeBinary),
    Column("errors", LargeBinary),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("done_at", Float),
    Index("bulk_portions_by_state", "batch_id", "state", "first_row"),
    Index("bulk_portions_by_owner", "owner"),
)

# The input lines of a portion until it is done: apart from it, as SQLite writes a row as a whole
# when a lease changes.
inputs = Table(
    "bulk_inputs",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("first_row", BigInteger, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)

# The production and canary version of each model: see ``services/rollouts``.
aliases = Table(
    "model_aliases",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("basis", String(64), nullable=False),  # hash of what the catalog said then
    Column("aliases", Text, nullable=False),  # JSON
    Column("changed_at", Float, nullable=False),
)


def now_s() -> float:
    """Wall-clock seconds since 1970; leases of several machines need a clock they share."""
    return datetime.now(UTC).timestamp()


def new_id(prefix: str, at_s: float) -> str:
    """A unique id whose alphabetical order is the order of creation, to the millisecond."""
    return f"{prefix}{int(at_s * 1e3):012x}{os.urandom(10).hex()}"
