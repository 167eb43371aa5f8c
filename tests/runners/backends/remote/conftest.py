"""A real upstream on loopback or a unix socket, in the test's own event loop."""

import contextlib
import json
import socket

import pytest
import uvicorn


class Upstream:
    """A small ASGI app: hands out prepared answers, keeps what it was asked.

    An answer is (status, headers, list of body chunks); a chunk that is a callable is awaited.
    """

    def __init__(self):
        self.answers = []
        self.asked = []
        self.left_early = 0

    def say(self, *chunks, status=200, **headers):
        body = [json.dumps(each).encode() if isinstance(each, dict) else each for each in chunks]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {"content-type": "application/json", **named}, body))

    def stream(self, *documents, done=True, **more):
        events = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in documents]
        self.say(*events, *([b"data: [DONE]\n\n"] if done else []), **more)
        self.answers[-1][1]["content-type"] = "text/event-stream"

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], headers, body))
        if scope["method"] == "GET" and not self.answers:
            self.say({})
        status, answer_headers, chunks = self.answers.pop(0)
        raw = [(name.encode(), value.encode()) for name, value in answer_headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for chunk in chunks:
            if callable(chunk):
                await chunk()
                if (await receive())["type"] == "http.disconnect":
                    self.left_early += 1
                    return
            else:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving(app, path=None):
    """Serve an app; gives its URL."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        url = f"unix://{path}"
    config = uvicorn.Config(app, lifespan="off", log_level="error", loop="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield url
    finally:
        await server.shutdown(sockets=[listener])


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture(params=["http", "unix"])
async def url(request, upstream, tmp_path):
    path = tmp_path / "upstream.sock" if request.param == "unix" else None
    async with serving(upstream, path) as address:
        yield address


class Pauses(list):
    """A sleep that only keeps how long it was asked to."""

    async def __call__(self, pause_s):
        self.append(pause_s)


@pytest.fixture
def pauses():
    return Pauses()
