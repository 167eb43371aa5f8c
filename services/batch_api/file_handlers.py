"""``/v1/files``: upload, list, get, download, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.batch_api import files
from services.batch_api.files import File
from services.batch_api.schema import ExpiresAfter, FileQuery, file_json, page_json, unknown
from services.batch_api.service import BatchService
from services.batch_api.upload import Form
from services.database.connection import Database
from services.database.tables import now_s
from services.http.messages import HttpRequest, Reply, json_reply
from turnout.errors import InvalidRequest

_PURPOSE = "batch"


class FileRoutes:
    """Handlers over one ``BatchService``."""

    def __init__(self, service: BatchService) -> None:
        self._service = service

    async def upload(self, http: HttpRequest) -> Reply:
        """``POST /v1/files``, whose body arrives in ``http.pieces``."""
        database = await self._service.database()
        file_id = await database.write(lambda c: files.begin(c, now_s()))
        try:
            form = await _read_form(http, database, file_id)
            kept_s = _kept_s(form.fields)
        except BaseException:
            await database.write(lambda c: files.remove(c, file_id))
            raise
        name = form.filename or ""
        file = await database.write(lambda c: files.end(c, file_id, name, _PURPOSE, kept_s))
        return json_reply(file_json(file))

    async def page(self, http: HttpRequest) -> Reply:
        """``GET /v1/files``."""
        query = FileQuery.of(http)
        database = await self._service.database()
        page = await database.read(
            lambda c: files.page(
                c,
                after=query.after,
                limit=query.limit + 1,
                purpose=query.purpose,
                newest=query.order == "desc",
            )
        )
        return json_reply(page_json([file_json(file) for file in page], query.limit))

    async def get(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/files/{id}``."""
        database = await self._service.database()
        file = await database.read(lambda c: files.find(c, name))
        return unknown("file", name) if file is None else json_reply(file_json(file))

    async def content(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v1/files/{id}/content``, streamed."""
        database = await self._service.database()
        file = await database.read(lambda c: files.find(c, name))
        if file is None:
            return unknown("file", name)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % file.bytes),
        ]
        return Reply(200, headers, _content(database, file))

    async def delete(self, http: HttpRequest, name: str) -> Reply:
        """``DELETE /v1/files/{id}``."""
        database = await self._service.database()
        if not await database.write(lambda c: files.remove(c, name)):
            return unknown("file", name)
        return json_reply({"id": name, "object": "file", "deleted": True})


async def _read_form(http: HttpRequest, database: Database, file_id: str) -> Form:
    """Read an upload's form; its file goes to the database piece by piece.

    Raises:
        InvalidRequest: the form is malformed, or its purpose is not ``batch``.
    """
    pieces = 0

    async def save(piece: bytes) -> None:
        nonlocal pieces
        position = pieces
        pieces += 1
        await database.write(lambda c: files.append(c, file_id, position, piece))

    if http.pieces is None:
        raise InvalidRequest("the request has no body", param="file")
    form = Form(http.header(b"content-type"), save)
    await form.read(http.pieces)
    purpose = form.fields.get("purpose")
    if purpose != _PURPOSE:
        raise InvalidRequest(f"purpose must be {_PURPOSE!r}, got {purpose!r}", param="purpose")
    return form


def _kept_s(fields: dict[str, str]) -> float | None:
    """How long an uploaded file is kept; None is for good."""
    keys = {"anchor": "expires_after[anchor]", "seconds": "expires_after[seconds]"}
    values = {key: fields[name] for key, name in keys.items() if name in fields}
    return float(ExpiresAfter.read(values, within="expires_after").seconds) if values else None


async def _content(database: Database, file: File) -> AsyncIterator[bytes]:
    position: int | None = None
    while True:
        chunk = await database.read(lambda c, at=position: files.chunk_after(c, file.id, at))
        if chunk is None:
            return
        position, piece = chunk
        yield piece
