"""Files and batches as the OpenAI API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.batch_api.batches import Batch, Progress
from services.batch_api.files import File
from services.http.messages import Reply, json_reply

_INSTANTS = ("created_at", "expires_at", "in_progress_at", "finalizing_at", "completed_at",
             "failed_at", "expired_at", "cancelling_at", "cancelled_at")  # fmt: skip
_COPIED = ("id", "endpoint", "input_file_id", "completion_window", "status", "output_file_id",
           "error_file_id", "metadata")  # fmt: skip


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
    """A batch object, and under ``turnout`` how fast it is and when it will be done."""
    shown: dict[str, Any] = {name: getattr(batch, name) for name in _COPIED}
    for name in _INSTANTS:
        instant = getattr(batch, name)
        shown[name] = None if instant is None else int(instant)
    errors = batch.errors and {"object": "list", "data": batch.errors}
    counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed}
    return shown | {
        "object": "batch",
        "errors": errors or None,
        "request_counts": counts,
        "turnout": _speed(batch, progress),
    }


def page_json(shown: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A list object."""
    return {
        "object": "list",
        "data": list(shown),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": has_more,
    }


def refusal(status: int, message: str, param: str | None = None) -> Reply:
    """A refusal that has no error of its own: nothing of that id, or too late to cancel."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return json_reply({"error": error}, status)


def _speed(batch: Batch, progress: Progress | None) -> dict[str, Any]:
    """Rows a second, seconds left, and rows that a worker holds.

    While it runs: over the last minute, all workers together. Afterwards: over the whole batch.
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
