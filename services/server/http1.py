"""HTTP/1.1 parsing and writing for small POST requests.

Only plain requests are read here: one POST with a ``content-length`` and no header that changes its
framing. For everything else the result is None, and uvicorn's parser decides.

Source: RFC 9110 and 9112 (field syntax, message framing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from services.http.messages import Reply

_MOST_HEAD = 8 * 1024
_MOST_DIGITS = 18
_REMEMBERED = 256
_HEAD = re.compile(
    rb"POST (/[!-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n"
)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer"})
_LINES = {
    status.value: b"HTTP/1.1 %d %s" % (status, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a plain POST.

    Attributes:
        path: the request's target.
        headers: by lower-case name, the last of equal ones; equal heads share them.
        size: bytes of the head, with the blank line.
        length: bytes of the body.
    """

    path: str
    headers: dict[bytes, bytes]
    size: int
    length: int


def head_of(data: bytes) -> Head | None:
    """Return the head that data begins with; None unless it is complete, a POST and plain."""
    end = data.find(b"\r\n\r\n", 0, _MOST_HEAD)
    return None if end < 0 else _read(data[: end + 4])


@lru_cache(maxsize=_REMEMBERED)
def _read(head: bytes) -> Head | None:
    """Parse a head; clients repeat theirs, so equal heads are parsed once."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return None
    headers: dict[bytes, bytes] = {}
    for line in match[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _FRAMING or (name == b"content-length" and name in headers):
            return None
        if name == b"connection" and value.lower() != b"keep-alive":
            return None
        headers[name] = value
    length = headers.get(b"content-length", b"")
    if not (length.isdigit() and len(length) <= _MOST_DIGITS):
        return None
    return Head(match[1].decode("ascii"), headers, len(head), int(length))


def response_bytes(reply: Reply, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Encode a reply with a complete body; ``more`` are headers that every answer carries.

    Raises:
        TypeError: the body is a stream, which has no length to write.
        ValueError: a header holds a control character.
    """
    body = reply.body
    if not isinstance(body, bytes):
        raise TypeError("a stream has no length to write")
    headers = (*more, *reply.headers)
    if _CONTROL.search(b"".join([value for _, value in headers])):
        raise ValueError("a header holds a control character")
    fields = b"\r\n".join([name + b": " + value for name, value in headers])
    line = _LINES.get(reply.status) or b"HTTP/1.1 %d " % reply.status
    return b"%s\r\n%s\r\ncontent-length: %d\r\n\r\n%s" % (line, fields, len(body), body)
