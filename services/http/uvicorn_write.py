"""One write to the socket for a whole response, instead of uvicorn's two.

uvicorn writes the head and the body of a response each with its own system call, and for a small
answer these are the largest single cost of a request. ASGI cannot express one write for both, so
this module uses the transport of uvicorn's response cycle; under any other server, or should
uvicorn change, the messages are sent unchanged (see docs/decisions/0001-front-door.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Transport(Protocol):
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class _Cork:
    """Replaces a transport while a response is put together."""

    __slots__ = ("_close", "_parts", "_transport")

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self._close = False

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def close(self) -> None:
        self._close = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pull(self) -> None:
        """Write the held parts, and close if that was requested."""
        if self._parts:
            self._transport.write(b"".join(self._parts))
        if self._close:
            self._transport.close()


async def send_together(send: Send, head: dict[str, Any], body: dict[str, Any]) -> None:
    """Send the two messages of a whole response with one write where the server allows."""
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if cycle is None or transport is None:
        await send(head)
        await send(body)
        return
    cork = _Cork(transport)
    cycle.transport = cork
    try:
        await send(head)
        await send(body)
    finally:
        cycle.transport = transport
        cork.pull()
