"""A tensor model on an Open Inference Protocol v2 server: Triton, MLServer, KServe or a Turnout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from runners.backends.remote.remote_model import RemoteModel
from runners.backends.remote.upstream import Upstream
from runners.open_inference import (
    HEADER_LENGTH,
    InferResponse,
    decode_response,
    encode_request,
    header_length_of,
)
from runners.protocol import TensorResult, Ticket
from runners.tasks.outputs import OutputMismatch, check_rows
from turnout.errors import InvalidRequest, UpstreamFailed
from turnout.types import SIGNATURES

if TYPE_CHECKING:
    from turnout.catalog.engines import OpenInference
    from turnout.types import Task, Tensors


class OpenInferenceBackend(RemoteModel):
    """A ``TensorBackend`` over REST with the binary tensor extension.

    Args:
        name: the model's name here.
        options: the catalog's: URL, the server's own name for the model, the longest silence.
        task: its public outputs are requested.
        classes: latency class to send, by priority.
        turnout: the server is another Turnout, which says when its model has loaded and what runs.
        clock: monotonic seconds.
        sleep: waits between attempts.
    """

    engine = "open-inference"

    def __init__(
        self,
        name: str,
        options: OpenInference,
        task: Task,
        *,
        classes: Mapping[int, str] | None = None,
        turnout: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        upstream = Upstream(
            name, options.url, options.timeout_s, classes=classes, clock=clock, sleep=sleep
        )
        super().__init__(name, upstream, options.model if turnout else None, clock)
        self._path = f"/v2/models/{quote(options.model, safe='')}"
        self._outputs = tuple(spec.name for spec in SIGNATURES[task].outputs)

    async def _open(self) -> None:
        await self._upstream.open(f"{self._path}/ready")

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        """Run tensors there; see ``TensorBackend.infer``."""
        headers, body = encode_request(tensors, id=ticket.id, outputs=self._outputs)
        start_s = self._clock()
        self._running += 1
        try:
            async with self._upstream.post(f"{self._path}/infer", body, headers, ticket) as answer:
                content = await answer.read()
                length = answer.headers.get(HEADER_LENGTH)
        finally:
            self._running -= 1
        produced = self._read(content, length).tensors
        missing = [output for output in self._outputs if output not in produced]
        if missing:
            raise UpstreamFailed(
                self._name,
                f"{self._upstream.url} did not answer with {', '.join(missing)} "
                f"(it gave {', '.join(produced)})",
            )
        rows = len(next(iter(tensors.values())))
        produced = {name: produced[name] for name in self._outputs}
        try:
            check_rows(produced, rows)
        except OutputMismatch as error:
            raise UpstreamFailed(self._name, f"{self._upstream.url}: {error}") from error
        return TensorResult(produced, queue_s=0.0, run_s=self._clock() - start_s, batch=rows)

    def _read(self, content: bytes, length: str | None) -> InferResponse:
        try:
            return decode_response(content, header_length_of(length))
        except InvalidRequest as error:
            raise UpstreamFailed(
                self._name, f"the answer of {self._upstream.url} is malformed: {error}"
            ) from error
