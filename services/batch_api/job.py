"""One batch in progress, as this worker sees it: portions taken, rows run, results handed in."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from services.batch_api import jsonl as lines
from services.batch_api.concurrency import ConcurrencyWindow
from services.batch_api.jsonl import Answered
from services.batch_api.leases import Portion, Results, hopeless, suspect
from services.batch_api.targets import Endpoints
from turnout.errors import CapacityError, DeadlineUnreachable, InvalidRequest, TurnoutError

logger = logging.getLogger("turnout.bulk")

_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 20.0
_FEED_S = 0.05

Sleep = Callable[[float], Awaitable[None]]


class Ledger(Protocol):
    """Where portions come from and results go; the worker's view of the database."""

    async def take(self, batch_id: str) -> Portion | None:
        """Take a portion under a lease; None when there is none to take."""
        ...

    async def hand_in(self, portion: Portion, results: Results) -> None:
        """Store a portion's results, if it is still this worker's."""
        ...

    def running(self, portion: Portion, task: asyncio.Task[None]) -> None:
        """Told which task runs a portion: it is cancelled when the lease is lost."""
        ...


@dataclass(slots=True)
class Job:
    """Runs a batch until no portion is left to take.

    Attributes:
        batch_id: the batch.
        endpoint: what its rows call.
        ledger: where portions come from and results go.
        endpoints: what runs a row.
        window: bounds the rows that run at once.
        sleep: waits before a retry.
    """

    batch_id: str
    endpoint: str
    ledger: Ledger
    endpoints: Endpoints
    window: ConcurrencyWindow
    sleep: Sleep = asyncio.sleep

    async def run(self) -> int:
        """Run the batch and return how many portions it took.

        Ends early, with everything it holds cancelled, when cancelled.
        """
        held: set[asyncio.Task[None]] = set()
        taken = 0
        try:
            while (portion := await self.ledger.take(self.batch_id)) is not None:
                if suspect(portion) and held:
                    await asyncio.wait(held)
                task = asyncio.ensure_future(self._portion(portion))
                held.add(task)
                taken += 1
                task.add_done_callback(held.discard)
                self.ledger.running(portion, task)
                if suspect(portion):
                    await asyncio.wait({task})
                while held and not self.window.starving:
                    await asyncio.wait(held, timeout=_FEED_S, return_when=asyncio.FIRST_COMPLETED)
            if held:
                await asyncio.wait(held)
            return taken
        finally:
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    async def _portion(self, portion: Portion) -> None:
        """Run the rows of one portion and hand its results in."""
        rows = portion.input.split(b"\n")
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._row(portion, portion.first_row + index, line))
                for index, line in enumerate(rows)
            ]
        answers = [task.result() for task in tasks]
        good = [line for ok, line in answers if ok]
        bad = [line for ok, line in answers if not ok]
        results = Results(b"".join(good), b"".join(bad), len(good), len(bad))
        try:
            await self.ledger.hand_in(portion, results)
        except SQLAlchemyError:
            # The lease runs out by itself and the portion runs again.
            logger.exception("results of %s, row %d on, could not be stored", *portion.key)

    async def _row(self, portion: Portion, row: int, line: bytes) -> tuple[bool, bytes]:
        """One row's result line, and whether it goes to the output file."""
        custom_id, body = lines.parse(line)
        if hopeless(portion):
            message = "the worker vanished each time it ran this request"
            return False, lines.unanswered(portion.batch_id, row, custom_id, "worker_lost", message)
        answered = await self._answer(body)
        text = lines.result(portion.batch_id, row, custom_id, answered)
        return answered.status == 200, text

    async def _answer(self, body: dict[str, object]) -> Answered:
        """Run a row until it is answered or has failed for good."""
        url, failures, pauses = self.endpoint, 0, 0
        while True:
            await self.window.acquire()
            try:
                return await self.endpoints.run(url, body)
            except InvalidRequest as error:
                return self.endpoints.refusal(url, error)
            except TurnoutError as error:
                wait_s = self._refused(error)
                failures += wait_s is None
                if failures >= _ATTEMPTS:
                    return self.endpoints.refusal(url, error)
            except Exception as error:  # noqa: BLE001 - one bad row must not stop its batch
                return self.endpoints.refusal(url, error)
            finally:
                self.window.release()
            backoff_s = min(_FIRST_PAUSE_S * 2**pauses, _LONGEST_PAUSE_S)
            pauses += 1
            # Jitter, so that rows refused together don't return together.
            await self.sleep(max(wait_s or 0.0, backoff_s * random.uniform(0.5, 1.0)))

    def _refused(self, error: TurnoutError) -> float | None:
        """How long a full model asks to wait; None for a failure, which may happen so often only.

        A row whose own deadline can't be held is a failure: waiting need not help it.
        """
        if isinstance(error, CapacityError) and not isinstance(error, DeadlineUnreachable):
            self.window.refused()
            return error.retry_after_s
        return None
