"""Emulate the part of AWS Lambda's Runtime API that a runtime uses, on loopback.

``invocation/next`` hands out queued events, ``invocation/ID/response`` and ``.../error`` take the
answers, ``init/error`` a function that could not start. There is no freezing, no timeout and no
limit on memory or CPU: it shows that a handler speaks the protocol, and what start and first
answer cost on this machine.

Source: AWS, "Using the Lambda runtime API for custom runtimes", version 2018-06-01.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.launches import installed

PROJECT = Path(__file__).parents[1]
HANDLER = PROJECT / "deploy" / "lambda"
RUNTIME = (sys.executable, "-m", "awslambdaric", "handler.handler")
_PREFIX = "/2018-06-01/runtime/"
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answered:
    """The runtime's answer to one event.

    Attributes:
        body: the handler's JSON.
        failed: it is an error report.
        at_s: monotonic instant at which it had arrived.
    """

    body: Any
    failed: bool
    at_s: float


class LambdaEmulator(ThreadingHTTPServer):
    """Serves the Runtime API while the ``with`` block runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.events: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self.answers: queue.Queue[Answered] = queue.Queue()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """Return the value for ``AWS_LAMBDA_RUNTIME_API``."""
        return f"127.0.0.1:{self.server_port}"

    def __enter__(self) -> LambdaEmulator:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving; a runtime still waiting for an event loses its connection."""
        self.events.put(None)
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a runtime that was ended in the middle of a request."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def send(self, event: Any) -> None:
        """Queue an event for the next runtime that asks."""
        self.events.put((str(uuid4()), json.dumps(event).encode()))

    def receive(self) -> Answered:
        """Wait for the next answer and return it.

        Raises:
            queue.Empty: none came within a minute.
        """
        return self.answers.get(timeout=_LIMIT_S)


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LambdaEmulator

    def do_GET(self) -> None:
        """Answer ``invocation/next``; block until there is an event."""
        if self.path != f"{_PREFIX}invocation/next":
            self.send_error(404)
            return
        event = self.server.events.get()
        if event is None:
            self.close_connection = True
            return
        request_id, body = event
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(4_102_444_800_000))
        self.send_header(
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:eu-central-1:000000000000:function:turnout",
        )
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Receive an answer, an error, or a failed start."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        failed = not self.path.endswith("/response")
        self.server.answers.put(Answered(body, failed, time.monotonic()))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def invoke(
    events: Sequence[Any], command: Sequence[str] = RUNTIME, **environment: str
) -> tuple[float, list[Answered]]:
    """Start a fresh runtime and answer events one after another.

    Returns:
        the monotonic instant before the process was started, and an answer for each event.

    Raises:
        queue.Empty: an answer did not come within a minute.
    """
    with LambdaEmulator() as api:
        env = installed() | {
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_NAME": "turnout",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "PYTHONPATH": str(PROJECT),
        }
        for event in events:
            api.send(event)
        started_s = time.monotonic()
        process = subprocess.Popen(
            command, cwd=HANDLER, env=env | environment, stdout=subprocess.DEVNULL
        )
        try:
            return started_s, [api.receive() for _ in events]
        finally:
            process.kill()
            process.wait()
