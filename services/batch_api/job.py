"""One batch in one worker: it takes portions, runs their rows, and stores the results."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from services.batch_api import jsonl
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


class PortionQueue(Protocol):
    """Portions of batches to run, and the place for their results."""

    async def take(self, batch_id: str) -> Portion | None:
        """Lease the next portion of a batch; None when there is none."""
        ...

    async def complete(self, portion: Portion, results: Results) -> None:
        """Store a portion's results, if it is still this worker's."""
        ...

    def running(self, portion: Portion, task: asyncio.Task[None]) -> None:
        """Record the task that runs a portion: it is cancelled when the lease is lost."""
        ...


@dataclass(slots=True)
class Job:
    """Runs a batch until no portion is left to take.

    Attributes:
        batch_id: the batch.
        endpoint: the URL of its rows.
        queue: the portions.
        endpoints: run the rows.
        window: bounds the rows that run at once.
        sleep: waits before a retry.
    """

    batch_id: str
    endpoint: str
    queue: PortionQueue
    endpoints: Endpoints
    window: ConcurrencyWindow
    sleep: Sleep = asyncio.sleep

    async def run(self) -> int:
        """Run the batch and return how many portions it took.

        When it is cancelled, every row that runs is cancelled too.
        """
        tasks: set[asyncio.Task[None]] = set()
        taken = 0
        try:
            while (portion := await self.queue.take(self.batch_id)) is not None:
                if suspect(portion) and tasks:
                    await asyncio.wait(tasks)
                task = asyncio.ensure_future(self._portion(portion))
                tasks.add(task)
                taken += 1
                task.add_done_callback(tasks.discard)
                self.queue.running(portion, task)
                if suspect(portion):
                    await asyncio.wait({task})
                while tasks and not self.window.starving:
                    await asyncio.wait(tasks, timeout=_FEED_S, return_when=asyncio.FIRST_COMPLETED)
            if tasks:
                await asyncio.wait(tasks)
            return taken
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _portion(self, portion: Portion) -> None:
        """Run the rows of one portion and store its results."""
        rows = portion.input.split(b"\n")
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._row(portion, portion.first_row + index, line))
                for index, line in enumerate(rows)
            ]
        outcomes = [task.result() for task in tasks]
        good = [line for ok, line in outcomes if ok]
        bad = [line for ok, line in outcomes if not ok]
        results = Results(b"".join(good), b"".join(bad), len(good), len(bad))
        try:
            await self.queue.complete(portion, results)
        except SQLAlchemyError:
            # The lease runs out by itself and the portion runs again.
            logger.exception("results of %s, row %d on, could not be stored", *portion.key)

    async def _row(self, portion: Portion, row: int, line: bytes) -> tuple[bool, bytes]:
        """Run one row; whether it succeeded, and its result line."""
        custom_id, body = jsonl.parse(line)
        if hopeless(portion):
            message = "the worker vanished each time it ran this request"
            return False, jsonl.unanswered(portion.batch_id, row, custom_id, "worker_lost", message)
        answer = await self._answer(body, len(line))
        try:
            return answer.status == 200, jsonl.result(portion.batch_id, row, custom_id, answer)
        except (TypeError, ValueError) as error:  # one answer that is no JSON spoils no other row
            answer = self.endpoints.refusal(self.endpoint, error)
            return False, jsonl.result(portion.batch_id, row, custom_id, answer)

    async def _answer(self, body: dict[str, object], size_bytes: int) -> Answered:
        """Run a row until it is answered or has failed for good."""
        url, failures, pauses = self.endpoint, 0, 0
        while True:
            await self.window.acquire()
            try:
                return await self.endpoints.run(url, body, size_bytes)
            except InvalidRequest as error:
                return self.endpoints.refusal(url, error)
            except TurnoutError as error:
                wait_s = self._retry_after_s(error)
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

    def _retry_after_s(self, error: TurnoutError) -> float | None:
        """The wait that a full model asks for; None for a failure, of which a row may have few.

        A row whose own deadline cannot be met is a failure: waiting need not help it.
        """
        if isinstance(error, CapacityError) and not isinstance(error, DeadlineUnreachable):
            self.window.refused()
            return error.retry_after_s
        return None
