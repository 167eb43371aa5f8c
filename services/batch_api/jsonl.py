"""The lines of a batch file: read, checked, and written. Pure.

An input line is ``{"custom_id", "method": "POST", "url", "body"}``; a result line is ``{"id",
"custom_id", "response": {"status_code", "request_id", "body"}, "error"}``, as OpenAI has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, field_validator

from turnout.errors import PayloadTooLarge
from turnout.problem import problem_text

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_LINES = 1_000_000
_MAX_ID_CHARS = 512


@dataclass(frozen=True, slots=True)
class Problem:
    """A line's problem, as a batch's ``errors`` lists it. Lines count from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The problem as a JSON object."""
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one row, whatever its status.

    Attributes:
        status: HTTP status; 200 goes to the output file, every other to the error file.
        request_id: the id of the decision behind it.
        body: JSON values, whose numbers may be numpy arrays.
    """

    status: int
    request_id: str
    body: dict[str, Any]


class InputLine(BaseModel):
    """A line of an input file."""

    model_config = ConfigDict(strict=True)
    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_ID_CHARS)]
    method: str
    url: str
    body: dict[str, Any]

    @field_validator("method")
    @classmethod
    def _is_post(cls, value: str) -> str:
        if value != "POST":
            raise ValueError("must be POST")
        return value


class LineChecker:
    """Checks the lines of one file, in order.

    Args:
        endpoint: the batch's endpoint, which every line must name as its ``url``.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._line_of_id: dict[int, int] = {}

    def check(self, text: bytes, number: int) -> Problem | None:
        """The first problem of a line; None when it is good."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return Problem("invalid_json_line", f"this line is not valid JSON: {error}", number)
        if not isinstance(value, dict):
            return Problem("invalid_json_line", "this line is not a JSON object", number)
        try:
            line = InputLine.model_validate(value)
        except ValidationError as error:
            return _problem(error, number)
        if line.url != self._endpoint:
            message = f"url {line.url!r} is not the batch's endpoint {self._endpoint!r}"
            return Problem("invalid_url", message, number, "url")
        first = self._line_of_id.setdefault(_digest(line.custom_id), number)
        if first != number:
            message = f"custom_id {line.custom_id!r} was used by line {first} already"
            return Problem("duplicate_custom_id", message, number, "custom_id")
        return None


def _problem(error: ValidationError, number: int) -> Problem:
    first = error.errors(include_url=False)[0]
    field, kind = str(first["loc"][0]), first["type"]
    if kind == "missing":
        return Problem("missing_required_parameter", f"{field} is missing", number, field)
    code = "invalid_type" if kind.endswith("_type") else f"invalid_{field}"
    return Problem(code, f"{field} {problem_text(first)}", number, field)


def split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that comes in pieces; blank lines included, line ends left out.

    Raises:
        PayloadTooLarge: a line is longer than ``MAX_LINE_BYTES``.
    """
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield b"".join((*parts, end)).rstrip(b"\r")
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise PayloadTooLarge(MAX_LINE_BYTES)
    if last := b"".join(parts).rstrip(b"\r"):
        yield last


def parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """A checked line's ``custom_id`` and ``body``."""
    row = orjson.loads(line)
    return row["custom_id"], row["body"]


def result(batch_id: str, row: int, custom_id: str, answered: Answered) -> bytes:
    """The result line of a row that was answered."""
    response = {
        "status_code": answered.status,
        "request_id": answered.request_id,
        "body": answered.body,
    }
    return _line(batch_id, row, custom_id, response, None)


def unanswered(batch_id: str, row: int, custom_id: str, code: str, message: str) -> bytes:
    """The result line of a row that was never answered, with the reason."""
    return _line(batch_id, row, custom_id, None, {"code": code, "message": message})


def _line(batch_id: str, row: int, custom_id: str, response: object, error: object) -> bytes:
    """A result line; its id follows from batch and row, so a row that runs again keeps it."""
    digest = hashlib.blake2b(f"{batch_id}/{row}".encode(), digest_size=12).hexdigest()
    value = {
        "id": f"batch_req_{digest}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest())
