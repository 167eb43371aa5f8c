"""Files and batches as the OpenAI API has them: the bodies and queries it takes, its objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from services.batch_api.batches import Batch, Progress
from services.batch_api.files import File
from services.http.messages import HttpRequest, Reply, json_reply
from services.protocols.json_body import JsonBody

_WINDOW = re.compile(r"([1-9]\d{0,4})([mhd])")
_UNIT_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_MIN_KEPT_S, _MAX_KEPT_S = 3600, 30 * 24 * 3600
_MAX_METADATA, _MAX_KEY_CHARS, _MAX_VALUE_CHARS = 16, 64, 512
_MAX_FILES = 10_000

_INSTANTS = ("created_at", "expires_at", "in_progress_at", "finalizing_at", "completed_at",
             "failed_at", "expired_at", "cancelling_at", "cancelled_at")  # fmt: skip
_COPIED = ("id", "endpoint", "input_file_id", "completion_window", "status", "output_file_id",
           "error_file_id", "metadata")  # fmt: skip

Name = Annotated[str, StringConstraints(min_length=1)]
Key = Annotated[str, StringConstraints(max_length=_MAX_KEY_CHARS)]
Value = Annotated[str, StringConstraints(max_length=_MAX_VALUE_CHARS)]


class ExpiresAfter(JsonBody):
    """How long a file is kept after it was made; a form has the seconds as text."""

    model_config = ConfigDict(extra="ignore")
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(strict=False, ge=_MIN_KEPT_S, le=_MAX_KEPT_S)]


class BatchBody(JsonBody):
    """``POST /v1/batches``."""

    model_config = ConfigDict(extra="ignore")
    endpoint: Name
    input_file_id: Name
    completion_window: str
    metadata: Annotated[dict[Key, Value], Field(max_length=_MAX_METADATA)] | None = None
    output_expires_after: ExpiresAfter | None = None

    @field_validator("completion_window")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        if _WINDOW.fullmatch(value) is None:
            raise ValueError("must be a number of m, h or d, such as '24h'")
        return value

    @property
    def window_s(self) -> float:
        """The completion window in seconds."""
        return int(self.completion_window[:-1]) * _UNIT_S[self.completion_window[-1]]

    @property
    def output_expires_s(self) -> float | None:
        """How long the output files are kept; None is for good."""
        kept = self.output_expires_after
        return None if kept is None else float(kept.seconds)


class Query(JsonBody):
    """The query string of a list request."""

    model_config = ConfigDict(extra="ignore", strict=False)
    after: str | None = None

    @classmethod
    def of(cls, http: HttpRequest) -> Self:
        """Read the query of a request; of a parameter that comes twice, the first counts.

        Raises:
            InvalidRequest: names the parameter that is wrong.
        """
        values = parse_qs(http.query.decode("latin-1"))
        return cls.read({name: texts[0] for name, texts in values.items()})


class BatchQuery(Query):
    """``GET /v1/batches``."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20


class FileQuery(Query):
    """``GET /v1/files``."""

    limit: Annotated[int, Field(ge=1, le=_MAX_FILES)] = _MAX_FILES
    purpose: str | None = None
    order: Literal["desc", "asc"] = "desc"


def file_json(file: File) -> dict[str, Any]:
    """A file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "expires_at": None if file.expires_at is None else int(file.expires_at),
    }


def batch_json(batch: Batch, progress: Progress | None) -> dict[str, Any]:
    """A batch object; ``turnout`` in it has the batch's speed and when it will be done."""
    fields: dict[str, Any] = {name: getattr(batch, name) for name in _COPIED}
    for name in _INSTANTS:
        instant = getattr(batch, name)
        fields[name] = None if instant is None else int(instant)
    errors = batch.errors and {"object": "list", "data": batch.errors}
    counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed}
    return fields | {
        "object": "batch",
        "errors": errors or None,
        "request_counts": counts,
        "turnout": _speed(batch, progress),
    }


def page_json(entries: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A list object of at most ``limit`` entries; further entries mean that it has more."""
    shown = entries[:limit]
    return {
        "object": "list",
        "data": list(shown),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(entries) > limit,
    }


def refusal(status: int, message: str, param: str | None = None) -> Reply:
    """A refusal without a code: nothing has that id, or it is too late to cancel."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return json_reply({"error": error}, status)


def unknown(kind: str, name: str) -> Reply:
    """The refusal of an id that no file or batch has."""
    return refusal(404, f"no such {kind}: {name}", "id")


def _speed(batch: Batch, progress: Progress | None) -> dict[str, Any]:
    """Rows per second, seconds left, and rows that a worker holds.

    While the batch runs: over the last minute, all workers together; after its end: over all of it.
    """
    if progress is None:
        ended = batch.finalizing_at or batch.cancelled_at
        if ended is None or batch.in_progress_at is None:
            return {"rows_per_s": None, "eta_s": None, "running": 0}
        took_s = max(ended - batch.in_progress_at, 1e-3)
        rate = round((batch.completed + batch.failed) / took_s, 3)
        return {"rows_per_s": rate, "eta_s": None, "running": 0}
    left = batch.total - batch.completed - batch.failed
    eta_s = round(left / progress.rows_per_s, 1) if progress.rows_per_s > 0 else None
    return {
        "rows_per_s": round(progress.rows_per_s, 3),
        "eta_s": eta_s,
        "running": progress.running,
    }
