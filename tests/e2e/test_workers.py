"""A gateway of two processes on one port: every answer is the same whichever is hit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.batches import IMAGE, body_of, ended, line, lines_of, submit
from tests.e2e.conftest import serving

pytestmark = pytest.mark.e2e
FAKES = Path(__file__).parent / "fakes.yaml"
SLOW = "/v2/models/slow/infer"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    catalog = home / "two.yaml"
    text = FAKES.read_text().replace("gateway: {", "gateway: {workers: 2, ")
    catalog.write_text(text.replace("latency_ms: 400", "latency_ms: 1500").replace(
        "max_rows: 8}}\n  classifier", "max_rows: 1, max_queue: 6}}\n  classifier"))  # fmt: skip
    with serving(
        BENTOML_HOME=str(home / "bentoml"),
        TURNOUT_CATALOG=str(catalog),
        TURNOUT_DATABASE_URL=f"sqlite:///{home}/bulk.db",
    ) as url:
        until(lambda: len(workers(url)) == 2)
        yield url


def workers(address: str) -> list[psutil.Process]:
    """The gateway processes that listen at an address."""
    port = int(address.rsplit(":", 1)[1])
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            mine = process.environ().get("PORT") == str(port)
        except psutil.Error:
            continue
        if mine and "_bentoml_impl.worker.service" in command and process.ppid() != os.getpid():
            found.append(process)
    return found


def until(reached: Callable[[], bool]) -> None:
    """Ask until it is so; the test's own timeout ends a vain wait."""
    while not reached():
        pass


def metric(address: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels, asked of whichever worker is hit."""
    text = httpx.get(f"{address}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_counts_decisions_and_feedback_are_the_same_at_every_worker(address: str) -> None:
    sent, owners = [], set()
    while len(owners) < 2 or len(sent) < 100:  # a connection each, so that both are hit
        reply = httpx.post(address + IMAGE, json=body_of(IMAGE, len(sent)))
        assert reply.status_code == 200
        sent.append(reply.headers["x-turnout-decision"])
        owners.add(sent[-1][:16])
    assert len(set(sent)) == len(sent)
    for _ in range(10):
        assert metric(address, "turnout_requests_total", route="image") == len(sent)
        assert metric(address, "turnout_request_seconds_count", route="image") == len(sent)
        assert metric(address, "turnout_model_up", model="classifier") == 1
    for decision_id in sent[:40]:
        found = httpx.get(f"{address}/v1/decisions/{decision_id}")
        assert found.json()["decision_id"] == decision_id
        said = {"decision_id": decision_id, "score": 0.5}
        assert httpx.post(f"{address}/v1/feedback", json=said).status_code == 202
    known = [httpx.get(f"{address}/v1/decisions/{sent[0]}").json() for _ in range(10)]
    assert all(each == known[0] for each in known)
    assert known[0]["feedback"] == [{"score": 0.5, "comment": None}]
    assert httpx.get(f"{address}/v1/decisions/req-none").status_code == 404


def test_the_workers_together_queue_no_more_than_the_catalog_says(address: str) -> None:
    def send(number: int) -> int:
        body = body_of(IMAGE.replace("image", "fraud"), number)
        headers = {"X-Latency-Class": "bulk"}
        return httpx.post(address + SLOW, json=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(40) as threads:
        waiting = [threads.submit(send, number) for number in range(40)]
        until(lambda: sum(each.done() for each in waiting) >= 20)
        depth = metric(address, "turnout_queue_depth", model="slow")
        running = metric(address, "turnout_running", model="slow")
    statuses = [each.result() for each in waiting]
    assert set(statuses) == {200, 429}
    assert 0 < depth <= 6
    assert 0 < running <= 2


def test_what_an_operator_does_reaches_every_worker(address: str) -> None:
    def statuses(n: int = 20) -> set[int]:
        """A connection each, so that both are hit."""
        path, body = "/v2/models/classifier/infer", body_of(IMAGE, 1)
        return {httpx.post(address + path, json=body).status_code for _ in range(n)}

    for verb, status in (("unload", 503), ("load", 200)) * 2:
        reply = httpx.post(f"{address}/v2/repository/models/classifier/{verb}", timeout=30)
        assert reply.status_code == 200, reply.text
        assert statuses() == {status}
    reply = httpx.post(f"{address}/v1/catalog/reload", timeout=30)
    assert reply.json() == {"added": [], "changed": [], "removed": []}


def test_the_workers_share_a_batch_and_a_killed_one_is_replaced(address: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=5)
    rows = 3000
    batch = submit(client, IMAGE, (line(IMAGE, n) for n in range(rows)))
    until(lambda: (client.batches.retrieve(batch.id).request_counts or batch).completed > 100)  # type: ignore[union-attr]
    victim = workers(address)[0]
    os.kill(victim.pid, signal.SIGKILL)
    done = ended(client, batch.id)
    results = lines_of(client, done.output_file_id)
    assert [each["custom_id"] for each in results] == [f"row-{n}" for n in range(rows)]
    until(lambda: len(workers(address)) == 2)
    assert metric(address, "turnout_running", model="classifier") == 0
    assert metric(address, "turnout_bulk_running_rows") == 0
