"""The form of ``POST /v1/files``, whose file goes to the database as it arrives.

At most one piece of the file is in memory at a time. Source: RFC 7578 (multipart/form-data).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from services.database.tables import CHUNK_BYTES
from turnout.errors import InvalidRequest, PayloadTooLarge

MAX_FILE_BYTES = 512 * 1024 * 1024
_MAX_FIELD_BYTES = 4096
_MAX_BESIDE_BYTES = 64 * 1024
_FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})


class Form:
    """The form of one upload, parsed as it arrives.

    Args:
        content_type: the request's header; holds the boundary.
        save: stores the file's next piece.

    Raises:
        InvalidRequest: the request is no multipart form.
    """

    def __init__(self, content_type: str | None, save: Callable[[bytes], Awaitable[None]]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "send multipart/form-data with the fields purpose and file", param="file"
            )
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._save = save
        self._name = ""
        self._in_file = False
        self._field = bytearray()
        self._piece = bytearray()
        self._size = 0
        self._header, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._on_header,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def read(self, pieces: AsyncIterator[bytes]) -> None:
        """Read the whole form.

        Raises:
            InvalidRequest: it is malformed, or ends early.
            PayloadTooLarge: the file is larger than ``MAX_FILE_BYTES``, or what is beside it is
                larger than ``_MAX_BESIDE_BYTES``.
        """
        arrived = 0
        try:
            async for piece in pieces:
                self._parser.write(piece)
                arrived += len(piece)
                if arrived - self._size > _MAX_BESIDE_BYTES:
                    raise PayloadTooLarge(_MAX_BESIDE_BYTES, "the form beside its file")
                if len(self._piece) >= CHUNK_BYTES:
                    await self._flush()
        except MultipartParseError as error:
            raise InvalidRequest(f"the form is malformed: {error}", param="file") from error
        if not self._ended:
            raise InvalidRequest("the form ends too early", param="file")
        if self.filename is None:
            raise InvalidRequest("the form has no file", param="file")
        await self._flush()

    async def _flush(self) -> None:
        if self._piece:
            piece, self._piece = bytes(self._piece), bytearray()
            await self._save(piece)

    def _on_header(self) -> None:
        name, value = bytes(self._header).lower(), bytes(self._value)
        self._header.clear()
        self._value.clear()
        if name != b"content-disposition":
            return
        _, options = parse_options_header(value)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == "file"
        if self._in_file:
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or "upload"

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._piece += data[start:end]
            self._size += end - start
            if self._size > MAX_FILE_BYTES:
                raise PayloadTooLarge(MAX_FILE_BYTES)
            return
        self._field += data[start:end]
        if len(self._field) > _MAX_FIELD_BYTES:
            raise InvalidRequest(f"the field {self._name!r} is too long", param=self._name)

    def _on_part_end(self) -> None:
        if self._name in _FIELDS:
            self.fields[self._name] = self._field.decode("utf-8", "replace")
        self._field.clear()
        self._in_file = False

    def _on_end(self) -> None:
        self._ended = True
