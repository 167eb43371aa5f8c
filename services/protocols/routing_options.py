"""Routing options of a request, from headers or the body's ``routing`` object.

A header wins over the body. The same names everywhere: ``latency_class`` / ``X-Latency-Class``,
``deadline_ms`` / ``X-Deadline-Ms``, ``max_cost_usd`` / ``X-Max-Cost-Usd``,
``min_quality`` / ``X-Min-Quality``, ``session`` / ``X-Session-Id``.

A gateway sends a model behind it the remaining time of a deadline, with ``X-Deadline-Left: 1``: the
latency class decides how it is held, since the gateway has already judged the caller's deadline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnout.catalog import Catalog
from turnout.errors import InvalidRequest, UnknownClass, UnknownModel
from turnout.types import SIGNATURES, Generation, Limits, Request, Signature, Task, Tensors

if TYPE_CHECKING:
    from services.dataplane.data_plane import DataPlane

_HEADERS = {
    "latency_class": b"x-latency-class",
    "deadline_ms": b"x-deadline-ms",
    "max_cost_usd": b"x-max-cost-usd",
    "min_quality": b"x-min-quality",
    "session": b"x-session-id",
}
ROUTING_KEYS = tuple(_HEADERS)
"""The options by their names in a body."""
_NO_LIMITS = Limits()
_MAX_SESSION = 256
_MAX_DEADLINE_MS = 24 * 3600 * 1e3


@dataclass(frozen=True, slots=True)
class RoutingOptions:
    """The caller's options; None where it set none. ``trace_id`` is W3C Trace Context's.

    ``own_deadline`` says that ``deadline_ms`` is the caller's, not a gateway's remaining time.
    """

    latency_class: str | None = None
    deadline_ms: float | None = None
    max_cost_usd: float | None = None
    min_quality: float | None = None
    trace_id: str | None = None
    session: str | None = None
    own_deadline: bool = False


_NOTHING = RoutingOptions()


def read_options(headers: Mapping[bytes, bytes], body: object = None) -> RoutingOptions:
    """Read the options of a request.

    Args:
        headers: lower-case names.
        body: the body's ``routing`` object, if any.

    Raises:
        InvalidRequest: a value is of the wrong kind or out of range, or a key is unknown.
    """
    if body is None:
        values: dict[str, Any] = {}
    elif isinstance(body, Mapping):
        values = dict(body)
        unknown = [str(key) for key in values if key not in _HEADERS]
        if unknown:
            raise InvalidRequest(
                f"routing: unknown key {', '.join(unknown)}; there are {', '.join(_HEADERS)}",
                param="routing",
            )
    else:
        raise InvalidRequest("routing must be an object", param="routing")
    for key, header in _HEADERS.items():
        if header in headers:
            values[key] = headers[header].decode("latin-1")
    trace_id = _trace_id(headers.get(b"traceparent"))
    if not values:
        return _NOTHING if trace_id is None else RoutingOptions(trace_id=trace_id)
    name = values.get("latency_class")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("latency_class must be a string", param="latency_class")
    deadline_ms = _number(values, "deadline_ms", 0.0, _MAX_DEADLINE_MS, above=True)
    return RoutingOptions(
        name or None,
        deadline_ms,
        _number(values, "max_cost_usd", 0.0, math.inf),
        _number(values, "min_quality", 0.0, 1.0),
        trace_id,
        _session(values.get("session")),
        deadline_ms is not None and b"x-deadline-left" not in headers,
    )


def new_request(
    plane: DataPlane,
    target: str,
    task: Task,
    inputs: Tensors | Generation,
    options: RoutingOptions,
    now_s: float,
    *,
    streamed: bool = False,
) -> Request:
    """Build a request, with the class's defaults where the caller set no option.

    Raises:
        UnknownClass: the catalog has no such class.
    """
    catalog = plane.catalog
    name = options.latency_class or default_class(catalog, target, task)
    latency_class = catalog.classes.get(name)
    if latency_class is None:
        raise UnknownClass(name, tuple(catalog.classes))
    deadline_ms = options.deadline_ms or latency_class.deadline_ms
    limits = (
        _NO_LIMITS
        if options.max_cost_usd is None and options.min_quality is None
        else Limits(options.max_cost_usd, options.min_quality)
    )
    return Request(
        plane.new_id(),
        target,
        task,
        inputs,
        name,
        now_s,
        now_s + deadline_ms / 1e3,
        limits,
        options.trace_id,
        options.session,
        streamed,
        options.own_deadline,
    )


def task_of(catalog: Catalog, name: str) -> Task:
    """Return the task of a model or route.

    Raises:
        UnknownModel: there is no model or route of this name.
    """
    entry = catalog.named(name)
    if entry is None:
        raise UnknownModel(name, catalog.names)
    return entry.task


def default_class(catalog: Catalog, target: str, task: Task) -> str:
    """Return the default class of a request: its route's, else that of the task's first route."""
    route = catalog.routes.get(target)
    if route is None:
        name = catalog.route_for(task)
        route = catalog.routes[name] if name else next(iter(catalog.routes.values()))
    return route.latency_class


def signature_for(catalog: Catalog, target: str, task: Task) -> Signature:
    """Return the public tensors of the named target, or the task's where it does another."""
    name = catalog.route_for(task) if target == "auto" else target
    entry = catalog.named(name or "")
    signature = catalog.signature_of(name) if name and entry and entry.task is task else None
    return signature or SIGNATURES[task]


def _trace_id(traceparent: bytes | None) -> str | None:
    """Return the trace id of a ``traceparent`` header; malformed ones count as absent (W3C)."""
    if traceparent is None:
        return None
    parts = traceparent.decode("latin-1").split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or not parts[1].isalnum():
        return None
    return parts[1]


def _session(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAX_SESSION or not value.isprintable():
        raise InvalidRequest(
            f"session must be printable text of at most {_MAX_SESSION} characters", param="session"
        )
    return value


def _number(
    values: Mapping[str, Any], key: str, low: float, high: float, *, above: bool = False
) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = low < number <= high if above else low <= number <= high
    if not inside:
        bounds = f"{'over' if above else 'at least'} {low:g}"
        bounds += "" if high == math.inf else f" and at most {high:g}"
        raise InvalidRequest(f"{key} must be a number {bounds}, got {value!r}", param=key)
    return number
