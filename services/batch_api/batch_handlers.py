"""``/v1/batches``: create, look at, list, cancel."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection

from services.batch_api import batches, files
from services.batch_api.expiry import expires_after_s
from services.batch_api.query import Query
from services.batch_api.schema import batch_json, page_json, refusal
from services.batch_api.service import BatchService
from services.database.tables import now_s
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from turnout.errors import InvalidRequest

_WINDOW = re.compile(r"^([1-9]\d{0,4})([mhd])$")
_UNIT_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_MOST_PAIRS, _KEY, _VALUE = 16, 64, 512
_SHOWN, _MOST_SHOWN = 20, 100


class BatchRoutes:
    """Handlers over one ``BatchService``."""

    def __init__(self, bulk: BatchService) -> None:
        self._bulk = bulk

    async def create(self, http: HttpRequest) -> Reply:
        """``POST /v1/batches``."""
        database = await self._bulk.database()
        body = json_object(http)
        endpoint, input_file_id = _text(body, "endpoint"), _text(body, "input_file_id")
        completion_window = _text(body, "completion_window")
        window_s = _window_s(completion_window)
        metadata = _metadata(body.get("metadata"))
        output_expires_s = _output_expires_s(body.get("output_expires_after"))
        self._bulk.known_endpoints().check(endpoint)

        def work(connection: Connection) -> batches.Batch:
            file = files.find(connection, input_file_id)
            if file is None:
                raise InvalidRequest(f"no such file: {input_file_id}", param="input_file_id")
            if file.purpose != "batch":
                raise InvalidRequest(
                    f"{input_file_id} was not uploaded with purpose 'batch'", param="input_file_id"
                )
            return batches.create(
                connection,
                endpoint=endpoint,
                input_file_id=input_file_id,
                completion_window=completion_window,
                window_s=window_s,
                metadata=metadata,
                now_s=now_s(),
                output_expires_s=output_expires_s,
            )

        batch = await database.write(work)
        self._bulk.wake()
        return json_reply(batch_json(batch, None))

    async def get(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/batches/{id}``."""
        del http
        database = await self._bulk.database()
        shown = await database.read(lambda c: _show(c, name))
        return _unknown(name) if shown is None else json_reply(shown)

    async def page(self, http: HttpRequest) -> Reply:
        """``GET /v1/batches``, the newest first."""
        query = Query(http)
        limit, after = query.limit(_SHOWN, _MOST_SHOWN), query.text("after")
        database = await self._bulk.database()

        def work(connection: Connection) -> tuple[list[dict[str, Any]], bool]:
            found = batches.page(connection, after=after, limit=limit + 1)
            at_s = now_s()
            shown = [
                batch_json(batch, batches.progress(connection, batch, at_s))
                for batch in found[:limit]
            ]
            return shown, len(found) > limit

        return json_reply(page_json(*await database.read(work)))

    async def cancel(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v1/batches/{id}/cancel``."""
        del http
        database = await self._bulk.database()

        def work(connection: Connection) -> tuple[bool, dict[str, Any] | None]:
            done = batches.cancel(connection, name, now_s())
            return done, _show(connection, name)

        done, shown = await database.write(work)
        if shown is None:
            return _unknown(name)
        if not done and shown["status"] not in ("cancelling", "cancelled"):
            return refusal(409, f"a batch that is {shown['status']} can't be cancelled")
        self._bulk.wake()
        return json_reply(shown)


def _show(connection: Connection, name: str) -> dict[str, Any] | None:
    batch = batches.find(connection, name)
    if batch is None:
        return None
    return batch_json(batch, batches.progress(connection, batch, now_s()))


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{key} must be given, as a string", param=key)
    return value


def _window_s(text: str) -> float:
    match = _WINDOW.match(text)
    if match is None:
        raise InvalidRequest(
            f"completion_window must be a number of m, h or d, such as '24h', got {text!r}",
            param="completion_window",
        )
    return int(match[1]) * _UNIT_S[match[2]]


def _output_expires_s(value: object) -> float | None:
    if value is None:
        return None
    said = value if isinstance(value, dict) else {}
    return expires_after_s(
        said.get("anchor", ""), said.get("seconds"), param="output_expires_after"
    )


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    fits = (
        isinstance(value, dict)
        and len(value) <= _MOST_PAIRS
        and all(
            isinstance(text, str) and len(text) <= _VALUE and len(key) <= _KEY
            for key, text in value.items()
        )
    )
    if not fits:
        raise InvalidRequest(
            f"metadata must be an object of at most {_MOST_PAIRS} strings, keys up to {_KEY} and "
            f"values up to {_VALUE} characters",
            param="metadata",
        )
    return dict(value)  # type: ignore[arg-type]


def _unknown(name: str) -> Reply:
    return refusal(404, f"no such batch: {name}", "id")
