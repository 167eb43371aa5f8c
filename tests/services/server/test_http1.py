"""HTTP on the wire: which heads are plain, and what an answer looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.http.messages import Reply
from services.server.http1 import head_of, response_bytes


def test_a_plain_head_is_read() -> None:
    data = b"POST /x HTTP/1.1\r\nHost: a\r\nX-Latency-Class:\t bulk \r\ncontent-length: 2\r\n\r\n{}"
    head = head_of(data)
    assert head is not None
    assert (head.path, head.length, data[head.size :]) == ("/x", 2, b"{}")
    assert head.headers == {b"host": b"a", b"x-latency-class": b"bulk", b"content-length": b"2"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\n",
        b"GET /x HTTP/1.1\r\ncontent-length: 2\r\n\r\n",
        b"POST /x HTTP/1.0\r\ncontent-length: 2\r\n\r\n",
        b"POST x HTTP/1.1\r\ncontent-length: 2\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: +2\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\nconnection: close\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\n folded: x\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length : 2\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\na: b\nc: d\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
    ],
)
def test_any_other_head_is_left_to_the_server(data: bytes) -> None:
    assert head_of(data) is None


@given(st.binary(max_size=200))
def test_noise_is_no_head(noise: bytes) -> None:
    assert head_of(noise) is None
    head_of(b"POST /x HTTP/1.1\r\n" + noise + b"\r\n\r\n")


def test_an_answer_has_its_headers_and_length() -> None:
    reply = Reply(200, [(b"content-type", b"text/plain")], b"hello")
    head, body = response_bytes(reply, [(b"date", b"now")]).split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"date: now",
        b"content-type: text/plain",
        b"content-length: 5",
    ]
    assert body == b"hello"
    assert response_bytes(Reply(299, [(b"a", b"b")])).startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"\x00"])
def test_a_header_cannot_carry_another(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        response_bytes(Reply(200, [(b"x-turnout-reason", value)]))
