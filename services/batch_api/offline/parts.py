"""The results of an unfinished job: one file per portion, so that a rerun resumes.

A portion's file appears whole or not at all, whatever happens to the process (or the machine).
When every portion has one, they become the output and the error file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import orjson

from services.batch_api.leases import Results
from services.batch_api.offline.job_file import JobFile
from turnout.errors import DataError


class Parts:
    """The finished portions of one job.

    Args:
        job: the job.
        portion_rows: rows of a portion.
        output: file of the results that succeeded; the parts are beside it until the end.
        errors: file of the results that failed.

    Raises:
        DataError: the output exists already, or the parts are of another job.
    """

    def __init__(self, job: JobFile, portion_rows: int, output: Path, errors: Path) -> None:
        self._output, self._errors = output, errors
        self._folder = output.with_name(output.name + ".parts")
        for path in (output, errors):
            if path.exists():
                raise DataError(f"{path} exists already; remove it or name another")
        facts = {"sha256": job.sha256, "endpoint": job.endpoint, "portion_rows": portion_rows}
        description = self._folder / "job.json"
        self._folder.mkdir(parents=True, exist_ok=True)
        if not description.exists():
            _write(description, orjson.dumps(facts))
        elif orjson.loads(description.read_bytes()) != facts:
            raise DataError(
                f"{self._folder} holds the results of another job, or of an older version of this "
                "file; remove it or name another output"
            )
        self._done = {part.first_row: part for part in map(_Part, self._folder.glob("*.part"))}

    @property
    def rows(self) -> tuple[int, int]:
        """Rows that succeeded and rows that failed so far."""
        done = self._done.values()
        return sum(part.good for part in done), sum(part.bad for part in done)

    def has(self, first_row: int) -> bool:
        """Whether the portion that begins with this row is finished."""
        return first_row in self._done

    def add(self, first_row: int, results: Results) -> None:
        """Store a portion's results; they are on disk when this returns."""
        name = f"{first_row:09d}-{results.completed}-{results.failed}.part"
        _write(self._folder / name, results.output + results.errors)
        self._done[first_row] = _Part(self._folder / name)

    def finish(self) -> None:
        """Write the output file, and the error file if a row failed, in input order."""
        parts = [self._done[row] for row in sorted(self._done)]
        _write_all(self._output, (part.lines(bad=False) for part in parts))
        if self.rows[1]:
            _write_all(self._errors, (part.lines(bad=True) for part in parts))
        shutil.rmtree(self._folder)


class _Part:
    """A finished portion's file; its name says how many of its lines are good and bad."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.first_row, self.good, self.bad = (int(text) for text in path.stem.split("-"))

    def lines(self, *, bad: bool) -> bytes:
        lines = self._path.read_bytes().splitlines(keepends=True)
        return b"".join(lines[self.good :] if bad else lines[: self.good])


def _write_all(path: Path, contents: Iterator[bytes]) -> None:
    def fill(file: IO[bytes]) -> None:
        file.writelines(contents)

    _write_with(path, fill)


def _write(path: Path, content: bytes) -> None:
    _write_with(path, lambda file: file.write(content))


def _write_with(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.new")
    with partial.open("wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
