"""One upstream server: its address, its connections, retries before the first byte, its errors.

aiohttp, because a request through it costs a ninth of the CPU of one through httpx (131 against
1232 microseconds, loopback, Python 3.11).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from runners.protocol import ActiveEngine, Ticket
from turnout.errors import (
    CapacityError,
    DeadlineUnreachable,
    InvalidRequest,
    LoadFailed,
    UpstreamFailed,
)

_ATTEMPTS = 3
_PAUSE_S = 0.1
_PROBE_PAUSE_S = 0.25
_BUSY = frozenset({429, 503})
_CALLER_IS_WRONG = frozenset({400, 413, 422})
_DEADLINE = "deadline_ms"
_FAR_S = 86_400.0
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Address:
    """Where an upstream listens: a base URL, and a socket's path for ``unix://``."""

    base: str
    socket: str | None = None


def read_address(url: str) -> Address:
    """Read ``http(s)://host[:port][/prefix]`` or ``unix:///path/to.sock``."""
    if url.startswith("unix://"):
        return Address("http://localhost", url.removeprefix("unix://"))
    return Address(url.rstrip("/"))


class Upstream:
    """A kept-alive pool of connections to one server.

    Args:
        name: the model's name, for errors.
        url: of the server.
        timeout_s: the longest silence.
        classes: latency class to send as ``X-Latency-Class``, by priority.
        clock: monotonic seconds.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        name: str,
        url: str,
        timeout_s: float,
        *,
        classes: Mapping[int, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self.url = url
        self._address = read_address(url)
        self._timeout_s = timeout_s
        self._classes = dict(classes or {})
        self._clock = clock
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    async def open(
        self, probe: str, headers: Mapping[str, str] | None = None, *, optional: bool = False
    ) -> None:
        """Open the pool and wait until the server answers ``GET probe`` well.

        Args:
            probe: path whose status tells whether it is ready.
            headers: to send with it.
            optional: a server without this path counts as ready.

        Raises:
            LoadFailed: it did not within the timeout, or it refuses the key.
        """
        await self.close()  # an earlier try may have left it open
        socket = self._address.socket
        connector = (
            aiohttp.UnixConnector(socket, limit=0) if socket else aiohttp.TCPConnector(limit=0)
        )
        # No limit on the whole answer: a long generation may take minutes while it flows.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeout_s, sock_read=self._timeout_s
        )
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        until_s = self._clock() + self._timeout_s
        while (problem := await self._probe(probe, headers, optional)) is not None:
            if self._clock() >= until_s:
                await self.close()
                raise LoadFailed(self._name, f"{self.url} did not become ready: {problem}")
            await self._sleep(_PROBE_PAUSE_S)

    async def open_model(self, model: str) -> ActiveEngine:
        """Open the pool to another Turnout and wait until it has loaded a model.

        Returns:
            What really runs there.

        Raises:
            LoadFailed: the model failed to load there, or it took longer than the timeout.
        """
        path = f"/v2/models/{quote(model, safe='')}"
        await self.open(path)
        until_s = self._clock() + self._timeout_s
        while True:
            async with self._opened().get(self._address.base + path) as answer:
                report: dict[str, Any] = (await answer.json())["parameters"]
            state = report.get("state")
            if state == "ready":
                return ActiveEngine(
                    report["engine"],
                    report["requested"],
                    report["provider"],
                    report["precision"],
                    report["reason"],
                    report["memory_bytes"],
                    report["load_s"],
                )
            if state != "loading" or self._clock() >= until_s:
                await self.close()
                raise LoadFailed(self._name, str(state))
            await self._sleep(_PROBE_PAUSE_S)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], ticket: Ticket
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield its answer once that begins with a good status.

        A connection refused or lost before the answer, 429 and 503 are tried again, after
        ``Retry-After`` if the server says so, as long as the deadline allows. Nothing is repeated
        after the first byte. Leaving the block early closes the connection, which tells the server
        to stop.

        Raises:
            DeadlineUnreachable: the deadline has passed, or the server says that what is left of it
                is too short.
            InvalidRequest: the server says the request itself is wrong.
            CapacityError: it stays busy (429, 503).
            UpstreamFailed: any other failure, in the server's words.
        """
        attempt = 1
        answered = False
        while True:
            try:
                async with self._opened().post(
                    self._address.base + path,
                    data=body,
                    headers={**headers, **self._urgency(ticket)},
                    allow_redirects=False,
                ) as answer:
                    if answer.status < 300:
                        answered = True
                        yield answer
                        return
                    pause_s = await self._refusal(answer, attempt, ticket)
            except TimeoutError as error:
                raise UpstreamFailed(
                    self._name, f"{self.url} was silent for {self._timeout_s:.3g} s"
                ) from error
            except aiohttp.ClientError as error:
                pause_s = _PAUSE_S * 2 ** (attempt - 1)
                refused = isinstance(error, aiohttp.ClientConnectionError) and not answered
                if not refused or not self._may_retry(attempt, pause_s, ticket):
                    raise UpstreamFailed(
                        self._name, f"{self.url}: {type(error).__name__}: {error}"
                    ) from error
            attempt += 1
            await self._sleep(pause_s)

    async def _refusal(self, answer: aiohttp.ClientResponse, attempt: int, ticket: Ticket) -> float:
        """Return seconds to wait before the next attempt, or raise the error of this one."""
        body = await answer.read()
        message = message_of(body)
        pause_s = _retry_after_s(answer.headers.get("Retry-After"), attempt)
        if answer.status in _BUSY and self._may_retry(attempt, pause_s, ticket):
            return pause_s
        if answer.status in _BUSY:
            raise CapacityError(f"model {self._name!r} is busy: {message}", retry_after_s=pause_s)
        if answer.status in _CALLER_IS_WRONG:
            param = _param_of(body)
            # The remaining deadline was sent by us, not by the caller.
            if _DEADLINE in (param, message.partition(":")[0]):
                raise DeadlineUnreachable(f"model {self._name!r}: {message}", retry_after_s=pause_s)
            raise InvalidRequest(f"model {self._name!r}: {message}", param=param)
        hint = "; check its key" if answer.status in {401, 403} else ""
        raise UpstreamFailed(self._name, f"{self.url} answered {answer.status}: {message}{hint}")

    def _may_retry(self, attempt: int, pause_s: float, ticket: Ticket) -> bool:
        return attempt < _ATTEMPTS and self._clock() + pause_s < ticket.deadline_s

    def _urgency(self, ticket: Ticket) -> dict[str, str]:
        left_s = ticket.deadline_s - self._clock()
        if left_s <= 0:
            raise DeadlineUnreachable(
                f"the deadline passed before model {self._name!r} was asked", retry_after_s=0.0
            )
        headers = {"X-Request-Id": ticket.id}
        if left_s < _FAR_S:
            headers["X-Deadline-Ms"] = str(max(int(left_s * 1e3), 1))
            headers["X-Deadline-Left"] = "1"
        if ticket.priority in self._classes:
            headers["X-Latency-Class"] = self._classes[ticket.priority]
        return headers

    async def _probe(
        self, path: str, headers: Mapping[str, str] | None, optional: bool
    ) -> str | None:
        """Return why the server is not ready; None when it is."""
        try:
            async with self._opened().get(self._address.base + path, headers=headers) as answer:
                if answer.status in {401, 403}:
                    message = message_of(await answer.read())
                    await self.close()
                    raise LoadFailed(
                        self._name, f"{self.url} refuses the key ({answer.status}): {message}"
                    )
                ready = answer.status < 300 or (optional and answer.status in {404, 405, 501})
                return None if ready else f"{answer.status}: {message_of(await answer.read())}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise LoadFailed(self._name, "is not started")
        return self._session


def message_of(body: bytes) -> str:
    """Return OpenAI's ``error.message``, the protocol's ``error``, or the text of a body."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return body[:_SHOWN].decode(errors="replace") or "(no message)"
    message = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(message, dict):
        message = message.get("message") or message.get("detail") or message
    return str(message)[:_SHOWN]


def _param_of(body: bytes) -> str | None:
    """Return the field that OpenAI's ``error.param`` names."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        param = json.loads(body)["error"]["param"]
        return param if isinstance(param, str) else None
    return None


def _retry_after_s(value: str | None, attempt: int) -> float:
    """Return the seconds a server asks to wait; a growing pause where it names none (or a date)."""
    try:
        return max(float(value or ""), 0.0)
    except ValueError:
        return _PAUSE_S * 2 ** (attempt - 1)
