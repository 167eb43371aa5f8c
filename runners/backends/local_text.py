"""The local backend of a generating model: asyncio on one side, its own thread on the other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

from runners.generation.scheduler import Event, Job, Scheduler
from runners.protocol import ActiveEngine, BackendLoad, TextRunner, Ticket
from turnout.errors import Draining, LoadFailed, TurnoutError
from turnout.types import Generation, Piece


class LocalText:
    """A ``TextBackend`` over a runner in this process.

    Loading and every step happen on one thread of its own, so heavy imports and long steps never
    hold up the event loop. The pieces of one step cross over in a single call.

    Args:
        name: the model's name, for errors.
        make: builds the runner; called on the engine's thread.
        max_queue: the most generations that wait.
        reserved: slots that only priority 0 may take; by default the last one, if there are more.
        clock: monotonic seconds.
        broke: called on the event loop with this backend and the reason when the model failed
            for good; it takes nothing more and is freed by then.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], TextRunner],
        *,
        max_queue: int = 64,
        reserved: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        broke: Callable[[LocalText, str], None] = lambda backend, reason: None,
    ) -> None:
        self._name = name
        self._make = make
        self._max_queue = max_queue
        self._reserved = reserved
        self._clock = clock
        self._broke = broke
        self._active: ActiveEngine | None = None
        self._scheduler: Scheduler | None = None
        self._pieces_of: dict[Job, asyncio.Queue[Piece | TurnoutError]] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None before ``start`` has finished."""
        return self._active

    def load_now(self) -> BackendLoad:
        """The present load."""
        return BackendLoad() if self._scheduler is None else self._scheduler.load_now()

    async def start(self) -> None:
        """Load the model on the engine's thread, which then serves it.

        Raises:
            LoadFailed: with what is wrong and what to do.
        """
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[ActiveEngine] = loop.create_future()
        self._thread = threading.Thread(
            target=self._serve, args=(loop, loaded), name=f"model-{self._name}", daemon=True
        )
        self._thread.start()
        self._active = await loaded

    async def stop(self) -> None:
        """Refuse new work, finish accepted work, free the model."""
        self._stopping = True
        if self._scheduler is not None:
            self._scheduler.wake()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    async def generate(self, generation: Generation, ticket: Ticket) -> AsyncIterator[Piece]:
        """Write an answer; see ``TextBackend.generate``."""
        if self._scheduler is None:
            raise LoadFailed(self._name, "is not loaded")
        if self._stopping:
            raise Draining("this model is being stopped; retry elsewhere", retry_after_s=1.0)
        pieces: asyncio.Queue[Piece | TurnoutError] = asyncio.Queue()
        job = self._scheduler.submit(generation, ticket)
        self._pieces_of[job] = pieces
        finished = False
        try:
            while not finished:
                piece = await pieces.get()
                finished = isinstance(piece, TurnoutError) or piece.finish_reason is not None
                if isinstance(piece, TurnoutError):
                    raise piece
                yield piece
        finally:
            del self._pieces_of[job]
            if not finished:
                self._scheduler.cancel(job)

    def _serve(
        self,
        loop: asyncio.AbstractEventLoop,
        loaded: asyncio.Future[ActiveEngine],
    ) -> None:
        """Load, then run the scheduler until stopped and drained."""
        try:
            runner = self._make()
            active = runner.load()
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            failed = (
                error
                if isinstance(error, TurnoutError)
                else LoadFailed(self._name, f"{type(error).__name__}: {error}")
            )
            loop.call_soon_threadsafe(_settle, loaded, None, failed)
            return
        scheduler = Scheduler(
            self._name,
            runner,
            lambda events: self._send(loop, events),
            clock=self._clock,
            max_queue=self._max_queue,
            reserved=self._reserved,
        )
        self._scheduler = scheduler
        loop.call_soon_threadsafe(_settle, loaded, active, None)
        while scheduler.wait(lambda: self._stopping or scheduler.broken is not None):
            scheduler.turn()
        try:
            runner.close()
        finally:
            broken = scheduler.broken
            if broken is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._broke, self, broken.problem)

    def _send(self, loop: asyncio.AbstractEventLoop, events: list[Event]) -> None:
        if loop.is_closed():  # the process is ending without stop(): nothing receives events
            self._stopping = True
        else:
            loop.call_soon_threadsafe(self._hand_out, events)

    def _hand_out(self, events: list[Event]) -> None:
        for job, piece in events:
            pieces = self._pieces_of.get(job)
            if pieces is not None:
                pieces.put_nowait(piece)


def _settle(
    loaded: asyncio.Future[ActiveEngine],
    active: ActiveEngine | None,
    error: TurnoutError | None,
) -> None:
    if loaded.done():
        return
    if error is not None:
        loaded.set_exception(error)
    elif active is not None:
        loaded.set_result(active)
