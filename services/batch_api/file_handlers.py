"""``/v1/files``: upload, list, look at, download, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.batch_api import files
from services.batch_api.expiry import expires_after_s
from services.batch_api.files import File
from services.batch_api.query import Query
from services.batch_api.schema import file_json, page_json, refusal
from services.batch_api.service import BatchService
from services.batch_api.upload import Form
from services.database.connection import Database
from services.database.tables import now_s
from services.http.messages import HttpRequest, Reply, json_reply
from turnout.errors import InvalidRequest

_PURPOSE = "batch"
_MOST_FILES = 10_000


class FileRoutes:
    """Handlers over one ``BatchService``."""

    def __init__(self, bulk: BatchService) -> None:
        self._bulk = bulk

    async def upload(self, http: HttpRequest) -> Reply:
        """``POST /v1/files``, whose body arrives in ``http.pieces``."""
        database = await self._bulk.database()
        file_id = await database.write(lambda c: files.begin(c, now_s()))
        saved = 0

        async def save(piece: bytes) -> None:
            nonlocal saved
            position = saved
            saved += 1
            await database.write(lambda c: files.append(c, file_id, position, piece))

        try:
            if http.pieces is None:
                raise InvalidRequest("the request has no body", param="file")
            form = Form(http.header(b"content-type"), save)
            await form.read(http.pieces)
            purpose = form.fields.get("purpose")
            if purpose != _PURPOSE:
                raise InvalidRequest(
                    f"purpose must be {_PURPOSE!r}, got {purpose!r}", param="purpose"
                )
            said = (form.fields.get(f"expires_after[{key}]") for key in ("anchor", "seconds"))
            kept_s = expires_after_s(*said, param="expires_after")
        except BaseException:
            await database.write(lambda c: files.remove(c, file_id))
            raise
        name = form.filename or ""
        file = await database.write(lambda c: files.end(c, file_id, name, _PURPOSE, kept_s))
        return json_reply(file_json(file))

    async def page(self, http: HttpRequest) -> Reply:
        """``GET /v1/files``."""
        query = Query(http)
        limit = query.limit(_MOST_FILES, _MOST_FILES)
        after, purpose = query.text("after"), query.text("purpose")
        newest = query.choice("order", ("desc", "asc")) == "desc"
        database = await self._bulk.database()
        found = await database.read(
            lambda c: files.page(c, after=after, limit=limit + 1, purpose=purpose, newest=newest)
        )
        shown = [file_json(file) for file in found[:limit]]
        return json_reply(page_json(shown, len(found) > limit))

    async def get(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/files/{id}``."""
        del http
        database = await self._bulk.database()
        file = await database.read(lambda c: files.find(c, name))
        return _unknown(name) if file is None else json_reply(file_json(file))

    async def content(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/files/{id}/content``, streamed."""
        del http
        database = await self._bulk.database()
        file = await database.read(lambda c: files.find(c, name))
        if file is None:
            return _unknown(name)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % file.bytes),
        ]
        return Reply(200, headers, _content(database, file))

    async def delete(self, http: HttpRequest, name: str) -> Reply:
        """``DELETE /v1/files/{id}``."""
        del http
        database = await self._bulk.database()
        if not await database.write(lambda c: files.remove(c, name)):
            return _unknown(name)
        return json_reply({"id": name, "object": "file", "deleted": True})


async def _content(database: Database, file: File) -> AsyncIterator[bytes]:
    position: int | None = None
    while True:
        found = await database.read(lambda c, at=position: files.chunk_after(c, file.id, at))
        if found is None:
            return
        position, piece = found
        yield piece


def _unknown(name: str) -> Reply:
    return refusal(404, f"no such file: {name}", "id")
