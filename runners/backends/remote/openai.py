"""A generating model behind any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from runners.backends.remote.completion import Completion, request_body
from runners.backends.remote.events import EventLines
from runners.backends.remote.upstream import Upstream
from runners.protocol import ActiveEngine, BackendLoad, Ticket
from turnout.errors import LoadFailed, UpstreamFailed
from turnout.types import Generation, Piece

if TYPE_CHECKING:
    import aiohttp

    from turnout.catalog.engines import OpenAI

_DONE = b"[DONE]"


class OpenAIBackend:
    """A ``TextBackend`` over streamed chat completions.

    Args:
        name: the model's name here.
        options: the catalog's: URL (with or without ``/v1``), the server's own name for the
            model, the key's environment variable (read at ``start``), the longest silence to bear.
        classes: latency class to send, by priority.
        turnout: the server is another Turnout, which says when its model has loaded and what runs.
        clock: monotonic seconds.
        sleep: waits between attempts.
        environment: where the key is read.
    """

    def __init__(
        self,
        name: str,
        options: OpenAI,
        *,
        classes: Mapping[int, str] | None = None,
        turnout: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._name = name
        self._options = options
        self._environment = environment
        self._clock = clock
        self._upstream = Upstream(
            name,
            options.url.rstrip("/").removesuffix("/v1"),
            options.timeout_s,
            classes=classes,
            clock=clock,
            sleep=sleep,
        )
        self._headers: dict[str, str] = {"Content-Type": "application/json"}
        self._turnout = options.model if turnout else None
        self._active: ActiveEngine | None = None
        self._running = 0

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None before ``start`` has finished."""
        return self._active

    def load_now(self) -> BackendLoad:
        """What we have under way there; its own queue is not ours to see."""
        return BackendLoad(running=self._running)

    async def start(self) -> None:
        """Read the key and wait until the server answers.

        Raises:
            LoadFailed: the key's variable is not set, the key is refused, or no server answers.
        """
        if self._turnout is not None:
            self._active = await self._upstream.open_model(self._turnout)
            return
        begun_s = self._clock()
        variable = self._options.api_key_env
        if variable is not None:
            key = self._environment.get(variable)
            if not key:
                raise LoadFailed(
                    self._name, f"set the environment variable {variable} to the API key"
                )
            self._headers["Authorization"] = f"Bearer {key}"
        await self._upstream.open("/v1/models", self._headers, optional=True)
        self._active = ActiveEngine(
            "openai",
            self._upstream.url,
            self._upstream.url,
            precision="unknown",
            load_s=self._clock() - begun_s,
        )

    async def stop(self) -> None:
        """Close every connection."""
        await self._upstream.close()

    async def generate(self, generation: Generation, ticket: Ticket) -> AsyncIterator[Piece]:
        """Write an answer; see ``TextBackend.generate``. Closing it stops the upstream too."""
        body = orjson.dumps(request_body(self._options.model, generation))
        completion = Completion(self._name)
        self._running += 1
        try:
            async with self._upstream.post(
                "/v1/chat/completions", body, self._headers, ticket
            ) as answer:
                async for document in self._documents(answer):
                    piece = completion.read(document)
                    if piece is not None:
                        yield piece
            yield completion.last()
        finally:
            self._running -= 1

    async def _documents(self, answer: aiohttp.ClientResponse) -> AsyncIterator[Any]:
        """The JSON of each event, or of the whole body where the server does not stream."""
        if answer.content_type == "application/json":
            yield self._parsed(await answer.read())
            return
        events = EventLines()
        async for chunk in answer.content.iter_any():
            for data in events.push(chunk):
                if data == _DONE:
                    return
                yield self._parsed(data)
        for data in events.flush():
            if data != _DONE:
                yield self._parsed(data)

    def _parsed(self, data: bytes) -> Any:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise UpstreamFailed(
                self._name, f"the answer of {self._upstream.url} is no JSON: {error}"
            ) from error
