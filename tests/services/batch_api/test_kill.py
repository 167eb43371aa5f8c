"""SIGKILL at random moments: the process has no chance to tidy up, the batch is exact all the same.

The real worker, plane and queues over a real database, in a process that is forked ready-made, so
that twenty deaths take seconds; ``tests/e2e/test_bulk_faults.py`` does it to the whole server.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest

from services.batch_api import batches, files
from services.batch_api.batches import Batch
from services.database.connection import Database
from services.database.tables import now_s
from tests.services.batch_api import killable

ROWS, KILLS = 10_000, 20


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.services.batch_api.killable", "services.batch_api.worker",
         "services.batch_api.targets", "psycopg"]
    )  # fmt: skip
    return context


def rows() -> Iterator[bytes]:
    for number in range(ROWS):
        image = base64.b64encode(b"%d" % number).decode()
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [image],
                  "parameters": {"content_type": "base64"}}  # fmt: skip
        row = {"custom_id": f"row-{number}", "method": "POST", "url": killable.ENDPOINT,
               "body": {"inputs": [tensor]}}  # fmt: skip
        yield json.dumps(row).encode() + b"\n"


def submit(database: Database) -> str:
    def work(connection: Any) -> str:
        file_id = files.begin(connection, now_s())
        files.append(connection, file_id, 0, b"".join(rows()))
        files.end(connection, file_id, "in.jsonl", "batch")
        return batches.create(
            connection, endpoint=killable.ENDPOINT, input_file_id=file_id,
            completion_window="24h", window_s=86400.0, metadata={}, now_s=now_s(),
        ).id  # fmt: skip

    return database.write_now(work)


def until(database: Database, batch_id: str, reached: Callable[[Batch], bool]) -> Batch:
    while True:
        batch = database.read_now(lambda c: batches.find(c, batch_id))
        assert batch is not None
        if reached(batch):
            return batch
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_twenty_kills_lose_no_row_and_answer_none_twice(
    database: Database, url: str, processes: ForkServerContext
) -> None:
    chance = random.Random(4)
    batch_id = submit(database)
    moments = sorted(chance.sample(range(1, int(ROWS * 0.6)), KILLS))
    for rows_done in moments:
        process = processes.Process(target=killable.run, args=(url,), daemon=True)
        process.start()
        until(database, batch_id, lambda batch, enough=rows_done: batch.completed >= enough)
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        process.join()
        batch = database.read_now(lambda c: batches.find(c, batch_id))
        assert batch is not None
        assert batch.status in batches.ACTIVE, "it was over before it was killed"
    last = processes.Process(target=killable.run, args=(url,), daemon=True)
    last.start()
    batch = until(database, batch_id, lambda batch: batch.status not in batches.ACTIVE)
    last.kill()
    last.join()
    assert (batch.status, batch.completed, batch.failed) == ("completed", ROWS, 0)
    output = database.read_now(lambda c: b"".join(files.content(c, batch.output_file_id or "")))
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"row-{n}" for n in range(ROWS)]
    assert {line["response"]["status_code"] for line in lines} == {200}
