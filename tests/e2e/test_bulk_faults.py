"""Batches of real servers that are killed: one that restarts, two that share a database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.batches import IMAGE, ended, line, lines_of, submit
from tests.e2e.conftest import PROJECT, free_port
from tests.services.database import postgres

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]
FAKES = Path(__file__).parent / "fakes.yaml"
ROWS = 4000


class Replica:
    """A server whose every process can be killed at once."""

    def __init__(self, home: Path, database_url: str) -> None:
        self.port = free_port()
        self.home = home
        self._env = os.environ | {
            "PORT": str(self.port),
            "BENTOML_HOME": str(home),
            "BENTOML_DO_NOT_TRACK": "True",
            "TURNOUT_CATALOG": str(FAKES),
            "TURNOUT_DATABASE_URL": database_url,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0
        )

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).parent / "bentoml"), "serve"],
                cwd=PROJECT, env=self._env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until_s = time.monotonic() + 120
        while not self._ready():
            assert time.monotonic() < until_s, (self.home / "log").read_text()[-4000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def replicas(count: int, folder: Path, database_url: str) -> Iterator[list[Replica]]:
    made: list[Replica] = []
    try:
        for index in range(count):
            home = folder / f"home-{index}"
            home.mkdir()
            made.append(Replica(home, database_url))
            made[-1].start()
        yield made
    finally:
        for each in made:
            each.kill()


def wait_for(client: openai.OpenAI, batch_id: str, rows: int) -> None:
    while True:
        batch = client.batches.retrieve(batch_id)
        assert batch.request_counts is not None
        if batch.request_counts.completed >= rows:
            return


def check(client: openai.OpenAI, batch_id: str) -> None:
    batch = ended(client, batch_id)
    assert batch.status == "completed"
    results = lines_of(client, batch.output_file_id)
    assert [each["custom_id"] for each in results] == [f"row-{n}" for n in range(ROWS)]
    assert {each["response"]["status_code"] for each in results} == {200}
    assert batch.error_file_id is None


def test_a_server_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with replicas(1, tmp_path, f"sqlite:///{tmp_path}/bulk.db") as (server,):
        batch = submit(server.client, IMAGE, (line(IMAGE, n) for n in range(ROWS)))
        for rows in (1, 900, 1800):
            wait_for(server.client, batch.id, rows)
            server.kill()
            server.start()
        check(server.client, batch.id)


def test_two_replicas_share_one_postgresql_and_one_may_die(tmp_path: Path) -> None:
    postgres.need()
    with (
        postgres.server() as database_url,
        replicas(2, tmp_path, database_url) as (first, second),
    ):
        batch = submit(first.client, IMAGE, (line(IMAGE, n) for n in range(ROWS)))
        while not all(rows_of(each) for each in (first, second)):
            assert second.client.batches.retrieve(batch.id).status != "completed"
        first.kill()
        check(second.client, batch.id)
        assert rows_of(second) < ROWS, "what the first had handed in was not run again"


def rows_of(replica: Replica) -> float:
    text = httpx.get(f"http://127.0.0.1:{replica.port}/metrics").text
    name = 'turnout_bulk_rows_total{status="completed"}'
    return sum(float(each.split()[-1]) for each in text.splitlines() if each.startswith(name))
