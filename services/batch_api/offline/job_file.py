"""A job file: the lines of an OpenAI batch, checked and cut into portions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.batch_api.jsonl import LineChecker, Problem, split
from services.batch_api.leases import Portion
from services.batch_api.validation import PortionBuilder
from turnout.errors import DataError, PayloadTooLarge

_PIECE_BYTES = 1024 * 1024
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file whose lines were all checked.

    Attributes:
        path: the file.
        sha256: of its content; results belong to it.
        endpoint: the URL of every line.
        rows: number of its lines.
    """

    path: Path
    sha256: str
    endpoint: str
    rows: int

    @property
    def batch_id(self) -> str:
        """The id in its results, the same at every run."""
        return f"batch_{self.sha256[:32]}"

    def portions(self, portion_rows: int) -> Iterator[Portion]:
        """Its rows as portions, read lazily."""
        builder = PortionBuilder(self.batch_id, portion_rows)
        for line in split(_pieces(self.path)):
            if line.strip():
                builder.add(line)
                yield from builder.take()
        yield from builder.take(everything=True)


def read(path: Path) -> JobFile:
    """Check every line of a job file.

    Raises:
        DataError: it cannot be read or has bad lines; one problem a line, with its number.
    """
    digest = hashlib.sha256()
    rows, endpoint, checker = 0, "", None
    problems: list[Problem] = []
    try:
        for number, line in enumerate(split(_hashed(path, digest)), 1):
            if not line.strip():
                continue
            if checker is None:
                endpoint = _url(line)
                checker = LineChecker(endpoint)
            if (problem := checker.check(line, number)) is not None:
                problems.append(problem)
            rows += 1
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except PayloadTooLarge as error:
        raise DataError(f"{path}: a line is too long: {error}") from error
    if problems:
        shown = [f"{path}:{each.line}: {each.message}" for each in problems[:_SHOWN_PROBLEMS]]
        more = len(problems) - len(shown)
        raise DataError("\n".join(shown + ([f"... and {more} more"] if more else [])))
    if not rows:
        raise DataError(f"{path}: has no requests")
    return JobFile(path, digest.hexdigest(), endpoint, rows)


def _url(line: bytes) -> str:
    """The URL of the first line; empty when it is malformed, which the checker reports."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""
    url = row.get("url") if isinstance(row, dict) else None
    return url if isinstance(url, str) else ""


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _hashed(path: Path, digest: hashlib._Hash) -> Iterator[bytes]:
    for piece in _pieces(path):
        digest.update(piece)
        yield piece
