from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.batch_api import batches, files
from services.batch_api.batches import Batch
from services.batch_api.jsonl import Answered
from services.batch_api.worker import Worker
from services.database.connection import Database
from services.metrics.batches import BatchMetrics
from tests.services.database.conftest import database as database
from tests.services.database.conftest import postgres_url as postgres_url
from tests.services.database.conftest import url as url
from turnout.errors import InvalidRequest, TurnoutError

URL = "/v2/models/square/infer"


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Squares:
    """Endpoints that square ``x``, after doing what a test tells them to.

    Attributes:
        problems: raised, one after the other, by runs of that ``x``.
        gate: when set, runs wait for it.
        answers: of some ``x``, in place of its square.
        known: whether the catalog has the endpoint.
        surprises: raised when asked how many rows may run at once.
    """

    rows: int = 4
    problems: dict[int, list[TurnoutError]] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    answers: dict[int, object] = field(default_factory=dict)
    known: bool = True
    surprises: list[Exception] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)

    def check(self, url: str) -> None:
        del url

    def portion_rows(self, url: str) -> int:
        if not self.known:
            raise InvalidRequest(f"nothing answers {url}")
        return self.rows

    def most_rows(self, url: str) -> int:
        del url
        if self.surprises:
            raise self.surprises.pop()
        return 8

    async def run(self, url: str, body: dict[str, Any], size_bytes: int) -> Answered:
        del url
        x = body["x"]
        if self.gate is not None:
            await self.gate.wait()
        else:
            await asyncio.sleep(0)
        if self.problems.get(x):
            raise self.problems[x].pop(0)
        self.ran.append(x)
        return Answered(200, f"req-{x}", {"y": self.answers.get(x, x * x)})

    def refusal(self, url: str, error: Exception) -> Answered:
        del url
        return Answered(503, "", {"error": str(error)})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
async def make_worker(
    database: Database, squares: Squares, clock: Clock
) -> AsyncIterator[Callable[[], Worker]]:
    made: list[Worker] = []

    async def no_wait(seconds: float) -> None:
        del seconds
        await asyncio.sleep(0)

    def make() -> Worker:
        worker = Worker(
            database,
            squares,
            BatchMetrics(CollectorRegistry()),
            clock=clock,
            poll_s=0.01,
            sleep=no_wait,
        )
        made.append(worker)
        return worker

    yield make
    for worker in made:
        await worker.stop()


def lines_of(values: list[int]) -> bytes:
    return b"".join(
        orjson.dumps({"custom_id": f"id-{x}", "method": "POST", "url": URL, "body": {"x": x}})
        + b"\n"
        for x in values
    )


async def submit(
    database: Database, content: bytes, clock: Clock, window_s: float = 86400.0
) -> Batch:
    def work(connection: Any) -> Batch:
        file_id = files.begin(connection, clock())
        # Pieces that end in the middle of lines, as an upload's do.
        for at in range(0, len(content), 1000):
            files.append(connection, file_id, at, content[at : at + 1000])
        files.end(connection, file_id, "in.jsonl", "batch")
        return batches.create(
            connection,
            endpoint=URL,
            input_file_id=file_id,
            completion_window="24h",
            window_s=window_s,
            metadata={},
            now_s=clock(),
        )

    return await database.write(work)


async def until(database: Database, batch_id: str, status: str) -> Batch:
    """The batch once it has this status; the test's own timeout ends a vain wait."""
    while True:
        batch = await database.read(lambda c: batches.find(c, batch_id))
        assert batch is not None
        if batch.status == status:
            return batch
        assert batch.status in batches.ACTIVE, batch


async def content(database: Database, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file."""
    if file_id is None:
        return []
    data = await database.read(lambda c: b"".join(files.content(c, file_id)))
    return [json.loads(line) for line in data.splitlines()]


__all__ = ["URL", "Clock", "Squares", "content", "lines_of", "submit", "until"]
