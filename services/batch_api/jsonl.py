"""The lines of a batch file: read, checked, and written. Pure.

An input line is ``{"custom_id", "method": "POST", "url", "body"}``; a result line is ``{"id",
"custom_id", "response": {"status_code", "request_id", "body"}, "error"}``, as OpenAI has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.errors import PayloadTooLarge

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_LINES = 1_000_000
_MAX_ID = 512


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line, as a batch's ``errors`` lists it. Lines count from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The problem as plain values."""
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to one row, whatever its status.

    Attributes:
        status: HTTP status; 200 goes to the output file, everything else to the error file.
        request_id: the decision behind it.
        body: JSON.
    """

    status: int
    request_id: str
    body: bytes


class Checker:
    """Checks the lines of one file, in order.

    Args:
        endpoint: the batch's endpoint, which every line must name as its ``url``.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._seen: dict[int, int] = {}

    def check(self, line: bytes, number: int) -> Problem | None:
        """What is wrong with a line; None when it is good."""
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return Problem("invalid_json_line", f"this line is not valid JSON: {error}", number)
        if not isinstance(row, dict):
            return Problem("invalid_json_line", "this line is not a JSON object", number)
        for key, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
            if key not in row:
                return Problem("missing_required_parameter", f"{key} is missing", number, key)
            if not isinstance(row[key], kind):
                want = "an object" if kind is dict else "a string"
                return Problem("invalid_type", f"{key} must be {want}", number, key)
        return self._check_values(row, number)

    def _check_values(self, row: dict[str, Any], number: int) -> Problem | None:
        custom_id = row["custom_id"]
        if not 0 < len(custom_id) <= _MAX_ID:
            message = f"custom_id must have 1 to {_MAX_ID} characters"
            return Problem("invalid_custom_id", message, number, "custom_id")
        if row["method"] != "POST":
            message = f"method must be POST, got {row['method']!r}"
            return Problem("invalid_method", message, number, "method")
        if row["url"] != self._endpoint:
            message = f"url {row['url']!r} is not the batch's endpoint {self._endpoint!r}"
            return Problem("invalid_url", message, number, "url")
        first = self._seen.setdefault(_digest(custom_id), number)
        if first != number:
            message = f"custom_id {custom_id!r} was used by line {first} already"
            return Problem("duplicate_custom_id", message, number, "custom_id")
        return None


def split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that comes in pieces, blank ones included, without line ends.

    Raises:
        PayloadTooLarge: a line is longer than ``MAX_LINE_BYTES``.
    """
    parts: list[bytes] = []
    held = 0
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield b"".join((*parts, line)).rstrip(b"\r")
            parts, held = [], 0
        parts.append(rest)
        held += len(rest)
        if held > MAX_LINE_BYTES:
            raise PayloadTooLarge(MAX_LINE_BYTES)
    if last := b"".join(parts).rstrip(b"\r"):
        yield last


def parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """A checked line's ``custom_id`` and ``body``."""
    row = orjson.loads(line)
    return row["custom_id"], row["body"]


def result(batch_id: str, row: int, custom_id: str, answered: Answered) -> bytes:
    """The result line of a row that was answered. The body goes in as it is."""
    response = {
        "status_code": answered.status,
        "request_id": answered.request_id,
        "body": orjson.Fragment(answered.body),
    }
    return _line(batch_id, row, custom_id, response, None)


def unanswered(batch_id: str, row: int, custom_id: str, code: str, message: str) -> bytes:
    """The result line of a row that was never answered, and why."""
    return _line(batch_id, row, custom_id, None, {"code": code, "message": message})


def _line(batch_id: str, row: int, custom_id: str, response: object, error: object) -> bytes:
    """The id follows from batch and row, so that it is the same however often the row runs."""
    name = hashlib.blake2b(f"{batch_id}/{row}".encode(), digest_size=12).hexdigest()
    value = {
        "id": f"batch_req_{name}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest())
