"""The form of an upload, as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.batch_api.upload import Form
from turnout.errors import PayloadTooLarge


def part(name: str, content: bytes, more: str = "") -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


async def read(*parts: bytes) -> tuple[Form, bytes]:
    saved: list[bytes] = []

    async def save(piece: bytes) -> None:
        saved.append(piece)

    async def pieces() -> AsyncIterator[bytes]:
        for each in (*parts, b"--edge--\r\n"):
            yield each

    form = Form("multipart/form-data; boundary=edge", save)
    await form.read(pieces())
    return form, b"".join(saved)


async def test_only_fields_that_mean_something_are_kept() -> None:
    file = part("file", b"x" * 200_000, '; filename="in.jsonl"')
    seconds = part("expires_after[seconds]", b"3600")
    form, saved = await read(part("purpose", b"batch"), part("other", b"y"), file, seconds)
    assert form.fields == {"purpose": "batch", "expires_after[seconds]": "3600"}
    assert (form.filename, saved) == ("in.jsonl", b"x" * 200_000)


@pytest.mark.parametrize("name", ["purpose", "f{}"])
async def test_what_is_beside_the_file_is_bounded(name: str) -> None:
    fields = [part(name.format(index), b"z" * 1000) for index in range(100)]
    with pytest.raises(PayloadTooLarge, match="beside its file is larger than the limit of 65536"):
        await read(*fields, part("file", b"x", '; filename="in.jsonl"'))
