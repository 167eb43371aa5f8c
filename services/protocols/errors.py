"""From error codes to HTTP status, and to each protocol's own shape of an error."""

from __future__ import annotations

import logging
import math

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
    """``{"error": {"message", "type", "param", "code"}}``."""
    status, code, message, headers = _facts(error)
    body = {
        "message": message,
        "type": _OPENAI_TYPE.get(status, "server_error"),
        "param": error.param if isinstance(error, InvalidRequest) else None,
        "code": code,
    }
    return Reply(status, headers, orjson.dumps({"error": body}))


def open_inference(error: Exception) -> Reply:
    """``{"error": "message"}``."""
    status, _, message, headers = _facts(error)
    return Reply(status, headers, orjson.dumps({"error": message}))


def native(error: Exception) -> Reply:
    """``{"error": {"code", "message", "param"}}``."""
    status, code, message, headers = _facts(error)
    param = error.param if isinstance(error, InvalidRequest) else None
    body = {"code": code, "message": message, "param": param}
    return Reply(status, headers, orjson.dumps({"error": body}))


def status_of(error: TurnoutError) -> int:
    """The HTTP status of an error."""
    return _STATUS.get(error.code, 500)


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
