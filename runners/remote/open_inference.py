"""A tensor model on an Open Inference Protocol v2 server: Triton, MLServer, KServe or a Turnout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from runners.open_inference import (
    HEADER_LENGTH,
    InferResponse,
    decode_response,
    encode_request,
    header_length_of,
)
from runners.protocol import Active, Load, Ran, Ticket
from runners.remote.upstream import Upstream
from turnout.errors import InvalidRequest, LoadFailed, UpstreamFailed

if TYPE_CHECKING:
    from turnout.catalog import Model
    from turnout.types import Tensors


class OpenInferenceBackend:
    """A ``TensorBackend`` over REST with the binary tensor extension.

    Args:
        name: the model's name here.
        url: the server's, ``http(s)://`` or ``unix://``.
        model: the server's own name for the model.
        timeout_s: the longest silence to bear.
        classes: latency class to send, by priority.
        clock: monotonic seconds.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        name: str,
        url: str,
        model: str,
        *,
        timeout_s: float = 60.0,
        classes: Mapping[int, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._path = f"/v2/models/{quote(model, safe='')}"
        self._upstream = Upstream(name, url, timeout_s, classes=classes, clock=clock, sleep=sleep)
        self._clock = clock
        self._active: Active | None = None
        self._running = 0

    @classmethod
    def of(
        cls, name: str, model: Model, classes: Mapping[int, str] | None = None
    ) -> OpenInferenceBackend:
        """The backend of a catalog entry."""
        options = model.runner
        if options.engine != "open-inference":
            raise LoadFailed(name, f"engine {options.engine!r} given to the open-inference backend")
        return cls(name, options.url, options.model, timeout_s=options.timeout_s, classes=classes)

    @property
    def active(self) -> Active | None:
        """What runs; None before ``start`` has finished."""
        return self._active

    def load_now(self) -> Load:
        """What we have under way there; its own queue is not ours to see."""
        return Load(running=self._running)

    async def start(self) -> None:
        """Wait until the server says the model is ready.

        Raises:
            LoadFailed: it did not within the timeout.
        """
        begun_s = self._clock()
        await self._upstream.open(f"{self._path}/ready")
        self._active = Active(
            "open-inference",
            self._upstream.url,
            self._upstream.url,
            precision="unknown",
            load_s=self._clock() - begun_s,
        )

    async def stop(self) -> None:
        """Close every connection."""
        await self._upstream.close()

    async def infer(self, tensors: Tensors, ticket: Ticket) -> Ran:
        """Run tensors there; see ``TensorBackend.infer``."""
        headers, body = encode_request(tensors, id=ticket.id)
        begun_s = self._clock()
        self._running += 1
        try:
            async with self._upstream.post(f"{self._path}/infer", body, headers, ticket) as answer:
                content = await answer.read()
                length = answer.headers.get(HEADER_LENGTH)
        finally:
            self._running -= 1
        produced = self._read(content, length).tensors
        rows = len(next(iter(tensors.values())))
        return Ran(produced, queue_s=0.0, run_s=self._clock() - begun_s, batch=rows)

    def _read(self, content: bytes, length: str | None) -> InferResponse:
        try:
            return decode_response(content, header_length_of(length))
        except InvalidRequest as error:
            raise UpstreamFailed(
                self._name, f"the answer of {self._upstream.url} is malformed: {error}"
            ) from error
