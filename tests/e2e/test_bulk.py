"""Files and batches of the real server, as the openai client sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.batches import (
    CHAT,
    EMBED,
    FRAUD,
    IMAGE,
    body_of,
    ended,
    line,
    lines_of,
    submit,
    upload,
)
from tests.e2e.conftest import serving

pytestmark = pytest.mark.e2e
FAKES = Path(__file__).parent / "fakes.yaml"
SLOW = "/v2/models/slow/infer"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    with serving(
        BENTOML_HOME=str(home),
        TURNOUT_CATALOG=str(FAKES),
        TURNOUT_DATABASE_URL=f"sqlite:///{home}/bulk.db",
    ) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("endpoint", [CHAT, EMBED, IMAGE, FRAUD])
def test_a_batch_of_any_task_gives_what_the_endpoint_gives(
    client: openai.OpenAI, address: str, endpoint: str
) -> None:
    made = submit(client, endpoint, (line(endpoint, n) for n in range(70)))
    assert made.endpoint == endpoint
    batch = ended(client, made.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 70, "completed": 70, "failed": 0}
    assert batch.error_file_id is None
    results = lines_of(client, batch.output_file_id)
    assert [each["custom_id"] for each in results] == [f"row-{n}" for n in range(70)]
    assert len({each["id"] for each in results}) == 70
    response = results[33]["response"]
    assert response["status_code"] == 200
    direct = httpx.post(address + endpoint, json=body_of(endpoint, 33)).json()
    for key in ("outputs", "data"):
        assert response["body"].get(key) == direct.get(key)
    if endpoint == CHAT:
        assert response["body"]["choices"] == direct["choices"]
    decision = httpx.get(f"{address}/v1/decisions/{response['request_id']}").json()
    assert decision["latency_class"] == "bulk"
    assert decision["outcome"]["status"] == "ok"


def test_rows_that_fail_are_in_the_error_file_each_with_its_reason(client: openai.OpenAI) -> None:
    lines = [
        line(CHAT, 0),
        line(CHAT, 1, {"model": "chat"}),
        line(CHAT, 2, {"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}),
        line(CHAT, 3, body_of(CHAT, 3) | {"stream": True}),
        line(CHAT, 4, body_of(CHAT, 4) | {"routing": {"latency_class": "warp"}}),
        line(CHAT, 5, {"messages": [{"role": "user", "content": "x" * 2_000_000}]}),
        line(CHAT, 6),
    ]
    batch = ended(client, submit(client, CHAT, lines).id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 5)
    good, bad = (lines_of(client, f) for f in (batch.output_file_id, batch.error_file_id))
    assert [each["custom_id"] for each in good] == ["row-0", "row-6"]
    statuses = {each["custom_id"]: each["response"]["status_code"] for each in bad}
    assert statuses == {"row-1": 400, "row-2": 404, "row-3": 400, "row-4": 400, "row-5": 413}
    params = [each["response"]["body"]["error"]["param"] for each in bad]
    assert params == ["messages", "model", "stream", "latency_class", None]


def test_a_malformed_file_fails_before_anything_runs_and_says_which_lines(
    client: openai.OpenAI,
) -> None:
    lines = [line(FRAUD, 0), b"{", line(CHAT, 1), line(FRAUD, 0)]
    batch = ended(client, submit(client, FRAUD, lines).id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(each.line, each.code) for each in batch.errors.data or []] == [
        (2, "invalid_json_line"),
        (3, "invalid_url"),
        (4, "duplicate_custom_id"),
    ]
    empty = ended(client, submit(client, FRAUD, []).id)
    assert [each.code for each in (empty.errors and empty.errors.data) or []] == ["empty_file"]


def test_files_are_listed_in_pages_read_and_deleted(client: openai.OpenAI) -> None:
    made = [upload(client, [line(FRAUD, n)]) for n in range(5)]
    assert len(set(made)) == 5
    newest = client.files.list(purpose="batch", limit=3)
    assert [each.id for each in newest.data] == made[:1:-1]
    assert newest.has_next_page()
    following = client.files.list(purpose="batch", limit=2, after=newest.data[-1].id)
    assert [each.id for each in following.data] == made[1::-1]
    everything = [each.id for each in client.files.list(purpose="batch", limit=2, order="asc")]
    assert [each for each in everything if each in made] == made
    one = client.files.retrieve(made[0])
    assert (one.filename, one.purpose, one.bytes) == (
        "rows.jsonl",
        "batch",
        len(line(FRAUD, 0)) + 1,
    )
    assert client.files.content(made[0]).read() == line(FRAUD, 0) + b"\n"
    assert client.files.delete(made[0]).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(made[0])


def test_batches_are_listed_in_pages_with_their_metadata(client: openai.OpenAI) -> None:
    made = [
        submit(client, FRAUD, [line(FRAUD, n)], metadata={"number": str(n)}).id for n in range(3)
    ]
    first = client.batches.list(limit=2)
    assert [each.id for each in first.data] == made[:0:-1]
    assert first.has_more
    assert [each.metadata for each in first.data] == [{"number": "2"}, {"number": "1"}]
    second = client.batches.list(limit=1, after=first.data[-1].id)
    assert [each.id for each in second.data] == made[:1]
    for each in made:
        ended(client, each)


def test_progress_and_a_cancel_keep_what_is_done(client: openai.OpenAI, address: str) -> None:
    made = submit(client, SLOW, (line(SLOW, n) for n in range(3000)))
    while True:
        batch = client.batches.retrieve(made.id)
        assert batch.request_counts is not None
        if batch.request_counts.completed:
            break
    speed = (batch.model_extra or {})["turnout"]
    assert speed["rows_per_s"] > 0
    assert speed["eta_s"] > 0
    assert speed["running"] > 0
    client.batches.cancel(made.id)
    batch = ended(client, made.id)
    assert batch.status == "cancelled"
    assert batch.request_counts is not None
    results = lines_of(client, batch.output_file_id)
    assert len(results) == batch.request_counts.completed > 0
    with pytest.raises(openai.APIStatusError) as refused:
        client.batches.cancel(submit_and_end(client))
    assert refused.value.status_code == 409
    metrics = httpx.get(f"{address}/metrics").text
    assert 'turnout_bulk_rows_total{status="completed"}' in metrics


def submit_and_end(client: openai.OpenAI) -> str:
    return ended(client, submit(client, FRAUD, [line(FRAUD, 1)]).id).id


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/v1/completions"}, "endpoint"),
        ({"endpoint": "/v2/models/nobody/infer"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_the_field(
    client: openai.OpenAI, address: str, said: dict[str, object], param: str
) -> None:
    good = {"input_file_id": upload(client, [line(FRAUD, 1)]), "endpoint": FRAUD,
            "completion_window": "24h"}  # fmt: skip
    reply = httpx.post(f"{address}/v1/batches", json=good | said)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


def test_an_upload_that_is_no_batch_file_is_refused(address: str) -> None:
    url = f"{address}/v1/files"
    file = {"file": ("a.jsonl", b"{}\n")}
    refused = [
        httpx.post(url, files=file, data={"purpose": "assistants"}),
        httpx.post(url, files=file),
        httpx.post(url, files={"purpose": (None, "batch")}),
        httpx.post(url, json={"purpose": "batch"}),
        httpx.post(url, content=b"--x\r\nnonsense", headers={
            "content-type": "multipart/form-data; boundary=x"}),
        httpx.post(url),
        httpx.post(url, files=file, data={
            "purpose": "batch", "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "5"}),
    ]  # fmt: skip
    assert [reply.status_code for reply in refused] == [400] * len(refused)
    messages = [reply.json()["error"]["message"] for reply in refused]
    assert all(messages)
    for path in ("/v1/files?limit=0", "/v1/files?order=up", "/v1/batches?limit=x"):
        assert httpx.get(address + path).status_code == 400
    for path in ("/v1/files/file-none", "/v1/batches/batch_none"):
        assert httpx.get(address + path).status_code == 404


def test_files_expire_when_they_were_told_to(client: openai.OpenAI) -> None:
    told = client.files.create(
        file=("a.jsonl", line(FRAUD, 1)), purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )  # fmt: skip
    assert told.expires_at == told.created_at + 3600
    made = client.batches.create(
        input_file_id=told.id, endpoint=FRAUD, completion_window="24h",  # type: ignore[arg-type]
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )  # fmt: skip
    output = ended(client, made.id).output_file_id
    assert output is not None
    file = client.files.retrieve(output)
    assert file.expires_at == file.created_at + 7200
