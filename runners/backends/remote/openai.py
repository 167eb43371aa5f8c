"""A generating model behind any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from runners.backends.remote.completion import Completion, request_body
from runners.backends.remote.events import EventLines
from runners.backends.remote.remote_model import RemoteModel
from runners.backends.remote.upstream import Upstream
from runners.protocol import Ticket
from turnout.errors import LoadFailed, UpstreamFailed
from turnout.types import Generation, Piece

if TYPE_CHECKING:
    from turnout.catalog.engines import OpenAI

_DONE = b"[DONE]"


class OpenAIBackend(RemoteModel):
    """A ``TextBackend`` over streamed chat completions.

    Args:
        name: the model's name here.
        options: the catalog's: URL (with or without ``/v1``), the server's own name for the
            model, the key's environment variable (read at ``start``), the longest silence.
        classes: latency class to send, by priority.
        turnout: the server is another Turnout, which says when its model has loaded and what runs.
        clock: monotonic seconds.
        sleep: waits between attempts.
        environment: where the key is read.
    """

    engine = "openai"

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
        upstream = Upstream(
            name,
            options.url.rstrip("/").removesuffix("/v1"),
            options.timeout_s,
            classes=classes,
            clock=clock,
            sleep=sleep,
        )
        super().__init__(name, upstream, options.model if turnout else None, clock)
        self._options = options
        self._environment = environment
        self._headers: dict[str, str] = {"Content-Type": "application/json"}

    async def _open(self) -> None:
        """Read the key and wait until the server answers.

        Raises:
            LoadFailed: the key's variable is not set, the key is refused, or no server answers.
        """
        variable = self._options.api_key_env
        if variable is not None:
            key = self._environment.get(variable)
            if not key:
                raise LoadFailed(
                    self._name, f"set the environment variable {variable} to the API key"
                )
            self._headers["Authorization"] = f"Bearer {key}"
        await self._upstream.open("/v1/models", self._headers, optional=True)

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
        """Yield the JSON of each event, or of the whole body where the server does not stream."""
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
