"""A model on another server: its connection, what runs there, and what is under way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from runners.backends.remote.upstream import Upstream
from runners.protocol import ActiveEngine, BackendLoad


class RemoteModel(ABC):
    """The part of a ``Backend`` that does not depend on the server's protocol.

    Args:
        name: the model's name, for errors.
        upstream: the server.
        turnout: the model's name there when the server is another Turnout, which says when the
            model has loaded and what runs; None for any other server.
        clock: monotonic seconds.
    """

    engine: ClassVar[str]

    def __init__(
        self, name: str, upstream: Upstream, turnout: str | None, clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._upstream = upstream
        self._turnout = turnout
        self._clock = clock
        self._active: ActiveEngine | None = None
        self._running = 0

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None before ``start`` has finished."""
        return self._active

    def load_now(self) -> BackendLoad:
        """The requests of this process under way there; the server's own queue is unknown."""
        return BackendLoad(running=self._running)

    async def start(self) -> None:
        """Wait until the server has the model ready.

        Raises:
            LoadFailed: it did not within the timeout, or refuses the key.
        """
        if self._turnout is not None:
            self._active = await self._upstream.open_model(self._turnout)
            return
        start_s = self._clock()
        await self._open()
        url = self._upstream.url
        self._active = ActiveEngine(
            self.engine, url, url, precision="unknown", load_s=self._clock() - start_s
        )

    async def stop(self) -> None:
        """Close every connection."""
        await self._upstream.close()

    @abstractmethod
    async def _open(self) -> None:
        """Open the connection and wait until the server is ready; see ``Upstream.open``."""
