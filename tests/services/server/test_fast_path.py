"""The gate: what it answers from raw bytes, and what it leaves alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from services.http.messages import HttpRequest, Reply, json_reply, send_reply
from services.protocols import errors
from services.server.admission import Admission
from services.server.dispatcher import Dispatcher
from services.server.fast_path import MOST_BODY, FastPathProtocol, install_fast_path
from services.server.routes import Route, RouteTable

PATH = b"/v2/models/fraud/infer"


def post(body: bytes = b"{}", path: bytes = PATH, more: bytes = b"") -> bytes:
    length = b"content-length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + length + more + b"\r\n" + body


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


async def _nobody(http: HttpRequest) -> Reply:
    raise AssertionError("the lane answers")


SHORT = Route(_nobody, errors.open_inference, short="realtime")


class Answers(Dispatcher):
    """A dispatcher of one short route, without a plane."""

    access_log = None

    def __init__(self, admission: Admission, answer: Any) -> None:
        self.admission = admission
        self.routes = RouteTable({("POST", PATH.decode()): SHORT})
        self.max_body = MOST_BODY
        self.answer = answer


def echo(http: HttpRequest) -> Reply:
    """What was understood of a request."""
    seen = [http.method, http.path, sorted((str(k), str(v)) for k, v in http.headers.items())]
    return json_reply([*seen, str(http.body)])


class Connection:
    """One connection to an application that answers when it is told to."""

    def __init__(self, door: Admission, *, gated: bool = True) -> None:
        self.dispatcher = Answers(door, self.reply)
        self.gated = gated
        self.answered_here: list[HttpRequest] = []
        self.broken = False
        self.wire = Wire()
        self.go = asyncio.Event()
        self.go.set()
        config = Config(self.app, lifespan="off", log_config=None, interface="asgi3")
        self.inner = self.wire.protocol = HttpToolsProtocol(config, ServerState(), {})
        self.inner.connection_made(self.wire)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await self.go.wait()
        if self.gated:
            install_fast_path(send, self.dispatcher)
        http = HttpRequest(scope["method"], scope["path"], dict(scope["headers"]), body)
        await send_reply(send, echo(http))

    async def reply(self, route: Route, http: HttpRequest) -> Reply:
        assert route == SHORT
        self.answered_here.append(http)
        if self.broken:
            raise LookupError("unforeseen")
        await self.go.wait()
        return echo(http)

    async def send(self, data: bytes) -> bytes:
        """What comes back for these bytes."""
        self.wire.written = b""
        self.wire.protocol.data_received(data)
        for _ in range(12):
            await asyncio.sleep(0)
        return self.wire.written


def full(door: Admission) -> None:
    while door.admits("realtime"):
        door.enter()


async def test_a_full_door_answers_503_with_retry_after_and_the_connection_goes_on() -> None:
    door = Admission({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    assert (await connection.send(post())).startswith(b"HTTP/1.1 200")
    assert isinstance(connection.wire.protocol, FastPathProtocol)
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
    door = Admission({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    full(door)
    for data in (post(path=b"/v1/chat/completions"), b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"):
        assert (await connection.send(data)).startswith(b"HTTP/1.1 200")


async def test_a_body_that_looks_like_a_request_is_not_taken_for_one() -> None:
    door = Admission({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    full(door)
    inside = post()
    whole = post(inside, path=b"/v1/files")
    assert await connection.send(whole[: -len(inside)]) == b""
    assert (await connection.send(inside)).startswith(b"HTTP/1.1 200")


async def test_a_pipelined_request_waits_behind_the_one_before_it() -> None:
    door = Admission({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    connection.go.clear()
    assert await connection.send(post(path=b"/v1/chat/completions")) == b""
    full(door)
    assert await connection.send(post()) == b""
    connection.go.set()
    assert (await connection.send(b"")).count(b"HTTP/1.1 200") == 2


async def test_short_requests_are_answered_before_uvicorn_sees_them() -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    assert connection.answered_here == []
    assert b'"POST","/v2/models/fraud/infer"' in await connection.send(post(b"[1]"))
    assert [http.body for http in connection.answered_here] == [b"[1]"]


async def test_a_request_in_pieces_is_answered_once_it_is_whole() -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    whole = post(b'{"some": "body"}')
    for cut in range(len(whole) - 18, len(whole)):
        assert await connection.send(whole[:cut]) == b""
        assert (await connection.send(whole[cut:])).startswith(b"HTTP/1.1 200")
    assert {http.body for http in connection.answered_here} == {b'{"some": "body"}'}


async def test_work_of_a_client_that_went_is_ended_and_leaves_the_door() -> None:
    door = Admission({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    connection.go.clear()
    assert await connection.send(post()) == b""
    assert door.inside == 1
    connection.wire.protocol.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert door.inside == 0
    assert b"HTTP/1.1" not in connection.wire.written


async def test_a_server_that_stops_finishes_what_the_gate_has_taken() -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    connection.go.clear()
    await connection.send(post())
    inner = connection.inner
    inner.shutdown()
    assert len(inner.tasks) == 1  # uvicorn waits for it
    connection.go.set()
    answer = await connection.send(b"")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"<closed>")


async def test_keep_alive_is_counted_from_the_last_answer_here() -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    first = connection.inner.timeout_keep_alive_task
    connection.go.clear()
    await connection.send(post())
    assert connection.inner.timeout_keep_alive_task is None  # none runs out during an answer
    connection.go.set()
    await connection.send(b"")
    assert connection.inner.timeout_keep_alive_task not in (None, first)


async def test_a_handler_that_fails_in_an_unforeseen_way_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    connection.broken = True
    assert await connection.send(post()) == b"<closed>"
    assert "could not be answered" in caplog.text


async def test_a_client_that_does_not_read_is_left_to_uvicorn() -> None:
    door = Admission({"realtime": 1.0}, 0.03, lambda: 0.0)
    connection = Connection(door)
    await connection.send(post())
    full(door)
    connection.wire.protocol.pause_writing()
    assert await connection.send(post()) == b""
    connection.wire.protocol.resume_writing()
    assert (await connection.send(b"")).startswith(b"HTTP/1.1 200")


async def test_a_limit_that_a_reload_has_lowered_holds_for_open_connections() -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    connection.dispatcher.max_body = 4
    await connection.send(post(b"12345"))
    assert connection.answered_here == []
    await connection.send(post(b"1234"))
    assert len(connection.answered_here) == 1


async def test_a_large_body_is_left_to_uvicorn() -> None:
    connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0))
    await connection.send(post())
    answer = await connection.send(post(b"x" * (MOST_BODY + 1)))
    assert answer.startswith(b"HTTP/1.1 200")
    assert connection.answered_here == []


names = st.text(st.sampled_from("abcdefgXYZ-_!~"), min_size=1, max_size=9).map(str.encode)
values = st.binary(max_size=12).filter(lambda value: not set(value) & set(b"\r\n\x00"))
pieces = st.lists(st.integers(0, 400), max_size=3)


@given(
    st.lists(st.tuples(names, values), max_size=4),
    st.binary(max_size=60),
    st.sampled_from([b"", b"connection: keep-alive\r\n", b"Connection: close\r\n",
                     b"transfer-encoding: chunked\r\n", b"expect: 100-continue\r\n",
                     b"content-length: 3\r\n", b"connection: keep-alive, x\r\n"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2"]),
    st.sampled_from([b"POST", b"PUT", b"post", b"POST "]),
    st.sampled_from([b"", b"POST /v2/mo", b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n", post(b"[2]")]),
    pieces,
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_with_a_gate_and_without_bytes_get_the_same_answer(
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    framing: bytes,
    version: bytes,
    method: bytes,
    after: bytes,
    cuts: list[int],
) -> None:
    lines = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
    length = b"Content-Length: %d\r\n" % len(body)
    data = method + b" " + PATH + b" " + version + b"\r\n" + lines + framing + length
    data += b"\r\n" + body + after
    asyncio.run(_same(data, sorted({min(cut, len(data)) for cut in cuts})))


async def _same(data: bytes, cuts: list[int]) -> None:
    answers: list[bytes] = []
    for gated in (True, False):
        connection = Connection(Admission({"realtime": 1.0}, 0.03, lambda: 0.0), gated=gated)
        await connection.send(post())
        found = b""
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if not found.endswith(b"<closed>"):  # a closed transport reads no more
                found += await connection.send(data[start:end])
        answers.append(found)
    assert answers[0] == answers[1]
