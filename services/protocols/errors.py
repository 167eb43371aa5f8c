"""HTTP statuses of error codes, and each protocol's shape of an error."""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson

from services.http.messages import JSON, Headers, Reply
from turnout.errors import CapacityError, InvalidRequest, MethodNotAllowed, TurnoutError

logger = logging.getLogger("turnout.http")

_STATUS = {
    "invalid_request": 400,
    "unknown_latency_class": 400,
    "unknown_model": 404,
    "unknown_route": 404,
    "unknown_path": 404,
    "payload_too_large": 413,
    "forbidden": 403,
    "method_not_allowed": 405,
    "limit_unreachable": 422,
    "catalog_invalid": 422,
    "queue_full": 429,
    "deadline_unreachable": 503,
    "over_memory_budget": 503,
    "overloaded": 503,
    "draining": 503,
    "capacity": 503,
    "load_failed": 503,
    "run_failed": 500,
    "upstream_failed": 502,
    "cancelled": 499,
}
_OPENAI_TYPE = {429: "rate_limit_error"} | dict.fromkeys(
    (400, 404, 405, 413, 422), "invalid_request_error"
)


def openai(error: Exception) -> Reply:
    """Return an error in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""
    status, headers, document = openai_document(error)
    return Reply(status, headers, orjson.dumps(document))


def open_inference(error: Exception) -> Reply:
    """Return an error in the Open Inference Protocol's shape: ``{"error": "message"}``."""
    status, headers, document = open_inference_document(error)
    return Reply(status, headers, orjson.dumps(document))


def native(error: Exception) -> Reply:
    """Return an error in Turnout's shape: ``{"error": {"code", "message", "param"}}``."""
    status, code, message, headers = _facts(error)
    body = {"code": code, "message": message, "param": _param(error)}
    return Reply(status, headers, orjson.dumps({"error": body}))


def openai_document(error: Exception) -> tuple[int, Headers, dict[str, Any]]:
    """Return status, headers and JSON values of an error in OpenAI's shape."""
    status, code, message, headers = _facts(error)
    body = {
        "message": message,
        "type": _OPENAI_TYPE.get(status, "server_error"),
        "param": _param(error),
        "code": code,
    }
    return status, headers, {"error": body}


def open_inference_document(error: Exception) -> tuple[int, Headers, dict[str, Any]]:
    """Return status, headers and JSON values of an Open Inference Protocol error."""
    status, _, message, headers = _facts(error)
    return status, headers, {"error": message}


def status_of(error: TurnoutError) -> int:
    """Return the HTTP status of an error."""
    return _STATUS.get(error.code, 500)


def _param(error: Exception) -> str | None:
    return error.param if isinstance(error, InvalidRequest) else None


def _facts(error: Exception) -> tuple[int, str, str, Headers]:
    headers: Headers = [JSON]
    if not isinstance(error, TurnoutError):
        logger.exception("a request failed unexpectedly", exc_info=error)
        return 500, "internal", "the gateway failed; its log has the cause", headers
    if isinstance(error, CapacityError):
        headers.append((b"retry-after", b"%d" % max(math.ceil(error.retry_after_s), 1)))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return status_of(error), error.code, str(error), headers
