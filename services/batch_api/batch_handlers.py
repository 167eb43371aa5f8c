"""``/v1/batches``: create, get, list, cancel."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from services.batch_api import batches, files
from services.batch_api.batches import Batch
from services.batch_api.schema import BatchBody, BatchQuery, batch_json, page_json, refusal, unknown
from services.batch_api.service import BatchService
from services.database.tables import now_s
from services.http.messages import HttpRequest, Reply, json_object, json_reply
from turnout.errors import InvalidRequest


class BatchRoutes:
    """Handlers over one ``BatchService``."""

    def __init__(self, service: BatchService) -> None:
        self._service = service

    async def create(self, http: HttpRequest) -> Reply:
        """``POST /v1/batches``."""
        database = await self._service.database()
        body = BatchBody.read(json_object(http))
        self._service.known_endpoints().check(body.endpoint)
        batch = await database.write(lambda c: _create(c, body))
        self._service.wake()
        return json_reply(batch_json(batch, None))

    async def get(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/batches/{id}``."""
        database = await self._service.database()
        shown = await database.read(lambda c: _show(c, batches.find(c, name)))
        return unknown("batch", name) if shown is None else json_reply(shown)

    async def page(self, http: HttpRequest) -> Reply:
        """``GET /v1/batches``, the newest first."""
        query = BatchQuery.of(http)
        database = await self._service.database()

        def work(connection: Connection) -> list[dict[str, Any] | None]:
            page = batches.page(connection, after=query.after, limit=query.limit + 1)
            return [_show(connection, batch) for batch in page]

        shown = [each for each in await database.read(work) if each is not None]
        return json_reply(page_json(shown, query.limit))

    async def cancel(self, http: HttpRequest, name: str) -> Reply:
        """``POST /v1/batches/{id}/cancel``."""
        database = await self._service.database()

        def work(connection: Connection) -> tuple[bool, dict[str, Any] | None]:
            cancelled = batches.cancel(connection, name, now_s())
            return cancelled, _show(connection, batches.find(connection, name))

        cancelled, shown = await database.write(work)
        if shown is None:
            return unknown("batch", name)
        if not cancelled and shown["status"] not in ("cancelling", "cancelled"):
            return refusal(409, f"a batch that is {shown['status']} can't be cancelled")
        self._service.wake()
        return json_reply(shown)


def _create(connection: Connection, body: BatchBody) -> Batch:
    """Make a batch of an uploaded file.

    Raises:
        InvalidRequest: there is no such file, or it is for another purpose.
    """
    file = files.find(connection, body.input_file_id)
    if file is None:
        raise InvalidRequest(f"no such file: {body.input_file_id}", param="input_file_id")
    if file.purpose != "batch":
        raise InvalidRequest(
            f"{file.id} was not uploaded with purpose 'batch'", param="input_file_id"
        )
    return batches.create(
        connection,
        endpoint=body.endpoint,
        input_file_id=file.id,
        completion_window=body.completion_window,
        window_s=body.window_s,
        metadata=body.metadata or {},
        now_s=now_s(),
        output_expires_s=body.output_expires_s,
    )


def _show(connection: Connection, batch: Batch | None) -> dict[str, Any] | None:
    if batch is None:
        return None
    return batch_json(batch, batches.progress(connection, batch, now_s()))
