"""Serve one classifier over HTTP from the standard library, until SIGTERM.

The port is bound before anything heavy is imported, so a request that arrives early waits for its
answer instead of being refused. A server framework would take longer to import than the model to
load, and none speeds up a model that runs one picture at a time.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from services.coldstart.endpoints import Endpoints, Reply, error_reply
from turnout.errors import Draining, InvalidRequest, PayloadTooLarge, QueueFull, TurnoutError

if TYPE_CHECKING:
    from services.coldstart.classifier import Classifier

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_IN_FLIGHT = 64
GRACE_S = 30.0
_IDLE_S = 30.0


def serve(classifier: Classifier, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT; requests in flight by then are answered.

    Returns:
        0, or 1 when a request was still in flight after ``GRACE_S``.

    Raises:
        ArtifactInvalid: a file of the model is damaged.
        LoadFailed: the model cannot be loaded.
    """
    server = ColdServer(classifier, host, port)

    def stop(signum: int, frame: object) -> None:
        threading.Thread(target=server.drain, name="drain").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    classifier.start()
    gc.freeze()  # imported objects stay; only objects of requests are collected
    gc.enable()
    threading.Thread(target=_stop_if_unloadable, args=(classifier, server), daemon=True).start()
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    classifier.wait()
    return 0 if server.finished else 1


def _stop_if_unloadable(classifier: Classifier, server: ColdServer) -> None:
    """Stop the server when its model cannot be loaded; only a restart can help."""
    try:
        classifier.wait()
    except TurnoutError:
        server.shutdown()


class ColdServer(ThreadingHTTPServer):
    """An HTTP server on one socket over one classifier.

    Attributes:
        endpoints: the handler of requests.
        finished: whether no request was in flight when the drain ended.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, classifier: Classifier, host: str, port: int) -> None:
        super().__init__((host, port), _Connection)
        self.endpoints = Endpoints(classifier)
        self.finished = True
        self._model = classifier.name
        self._in_flight = 0
        self._changed = threading.Condition()

    def server_bind(self) -> None:
        """Bind without the base class's reverse name lookup."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def run_counted(self, work: Callable[[], Reply]) -> Reply:
        """Run one request's work and count it; refuse it when the server is full or drains."""
        with self._changed:
            if self.endpoints.draining:
                return error_reply(Draining("the server is shutting down", retry_after_s=1.0))
            if self._in_flight >= MAX_IN_FLIGHT:
                return error_reply(QueueFull(self._model, self._in_flight, retry_after_s=1.0))
            self._in_flight += 1
        try:
            return work()
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected; print any other error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def drain(self) -> None:
        """Refuse new pictures, wait for those in flight, then end ``serve_forever``."""
        with self._changed:
            self.endpoints.draining = True
            self.finished = self._changed.wait_for(lambda: not self._in_flight, GRACE_S)
        self.shutdown()


class _Connection(BaseHTTPRequestHandler):
    """The handler of one keep-alive connection."""

    protocol_version = "HTTP/1.1"
    server_version = "turnout"
    sys_version = ""
    timeout = _IDLE_S
    disable_nagle_algorithm = True
    server: ColdServer

    def do_GET(self) -> None:
        """Answer health, readiness and metadata."""
        self._send(self.server.endpoints.answer("GET", self._route(), self._names(), b""))

    def do_POST(self) -> None:
        """Answer an inference; it counts as in flight until its reply is written."""
        replied: list[bool] = []

        def work() -> Reply:
            reply = self._infer()
            self._send(reply)
            replied.append(True)
            return reply

        reply = self.server.run_counted(work)
        if not replied:
            self.close_connection = True  # its body was not read
            self._send(reply)

    def handle_expect_100(self) -> bool:
        """Defer the 100 Continue until the body is accepted; see ``_infer``."""
        return True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing; the proxy in front logs requests."""

    def _infer(self) -> Reply:
        length = self.headers.get("content-length", "")
        if not length.isdigit():
            self.close_connection = True
            return error_reply(InvalidRequest("send a body with a content-length header"))
        if int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            return error_reply(PayloadTooLarge(MAX_BODY_BYTES))
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return error_reply(InvalidRequest("the body ended before its content-length"))
        return self.server.endpoints.answer("POST", self._route(), self._names(), body)

    def _route(self) -> str:
        return self.path.partition("?")[0]

    def _names(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        if self.server.endpoints.draining or self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)
