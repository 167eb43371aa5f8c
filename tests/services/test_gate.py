"""The gate: what it answers from raw bytes, and what it leaves alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from services.door import Door
from services.gate import Gate, stand_before, whole_request
from services.protocols import errors

PATH = b"/v2/models/fraud/infer"


def post(body: bytes = b"{}", path: bytes = PATH, more: bytes = b"") -> bytes:
    length = b"content-length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + length + more + b"\r\n" + body


def test_exactly_one_post_is_recognised() -> None:
    assert whole_request(post(b'{"a":1}')) == (PATH, "")
    assert whole_request(post(more=b"X-Latency-Class: bulk\r\n")) == (PATH, "bulk")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /x HTTP/1.1\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: no\r\n\r\n",
        post(b"{}")[:-1],
        post(b"{}") + b"P",
        post() + post(),
    ],
)
def test_anything_else_is_not(data: bytes) -> None:
    assert whole_request(data) is None


@given(st.binary(max_size=200))
def test_noise_is_read_without_an_error(noise: bytes) -> None:
    assert whole_request(noise) is None
    whole_request(b"POST " + noise + b"\r\n\r\n")


class Wire(asyncio.Transport):
    """A transport that remembers what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.written += b"<closed>"

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Connection:
    """One connection to an application that answers when it is told to."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.wire = Wire()
        self.go = asyncio.Event()
        self.go.set()
        config = Config(self.app, lifespan="off", log_config=None, interface="asgi3")
        inner = HttpToolsProtocol(config, ServerState(), {})
        self.wire.protocol = inner
        inner.connection_made(self.wire)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.go.wait()
        stand_before(send, self.door, lambda path: ("realtime", errors.open_inference)
                     if path == PATH else None)  # fmt: skip
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(self, data: bytes) -> bytes:
        """What comes back for these bytes."""
        self.wire.written = b""
        self.wire.protocol.data_received(data)
        for _ in range(10):
            await asyncio.sleep(0)
        return self.wire.written


def full(door: Door) -> None:
    while door.admits("realtime"):
        door.enter()


async def test_a_full_door_answers_503_with_retry_after_and_the_connection_goes_on() -> None:
    door = Door({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    assert (await connection.send(post())).startswith(b"HTTP/1.1 200")
    assert isinstance(connection.wire.protocol, Gate)
    full(door)
    refused = await connection.send(post())
    assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1\r\n" in refused
    head, body = refused.split(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    while door.inside:
        door.leave(0.0)
    assert (await connection.send(post())).startswith(b"HTTP/1.1 200")


async def test_other_paths_and_methods_pass_a_full_door() -> None:
    door = Door({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    full(door)
    for data in (post(path=b"/v1/chat/completions"), b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"):
        assert (await connection.send(data)).startswith(b"HTTP/1.1 200")


async def test_a_body_that_looks_like_a_request_is_not_taken_for_one() -> None:
    door = Door({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    full(door)
    inside = post()
    whole = post(inside, path=b"/v1/files")
    assert await connection.send(whole[: -len(inside)]) == b""
    assert (await connection.send(inside)).startswith(b"HTTP/1.1 200")


async def test_a_pipelined_request_waits_behind_the_one_before_it() -> None:
    door = Door({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    connection.go.clear()
    assert await connection.send(post(path=b"/v1/chat/completions")) == b""
    full(door)
    assert await connection.send(post()) == b""
    connection.go.set()
    assert (await connection.send(b"")).count(b"HTTP/1.1 200") == 2


async def test_uvicorn_sees_a_request_now_and_then_so_that_it_keeps_the_connection() -> None:
    now_s = 0.0
    door = Door({"realtime": 1.0}, 0.03, lambda: now_s)
    connection = Connection(door)
    await connection.send(post())
    full(door)
    assert (await connection.send(post())).startswith(b"HTTP/1.1 503")
    now_s = 3.0
    door.arrive()
    assert (await connection.send(post())).startswith(b"HTTP/1.1 200")
