"""Tensors to a real server and back."""

import time

import numpy as np
import pytest

from runners.backends.remote import OpenInferenceBackend
from runners.open_inference import decode_request, encode_response, header_length_of
from runners.protocol import Ticket
from turnout.catalog.engines import OpenInference
from turnout.errors import (
    CapacityError,
    DeadlineUnreachable,
    InvalidRequest,
    LoadFailed,
    UpstreamFailed,
)
from turnout.types import Task

TENSORS = {"features": np.arange(30, dtype=np.float32).reshape(2, 15)}
BYTES = {"text": np.array([b"a", "é".encode()], object)}


def backend_of(url, model="there", **more):
    options = OpenInference(engine="open-inference", url=url, model=model)
    return OpenInferenceBackend("here", options, Task.TABULAR, **more)


@pytest.fixture
async def backend(url, pauses):
    backend = backend_of(url, "there/1", classes={0: "realtime"}, sleep=pauses)
    await backend.start()
    yield backend
    await backend.stop()


def ticket(in_s=60.0, priority=0):
    return Ticket("r1", priority, time.monotonic() + in_s)


def answer(upstream, tensors, **more):
    headers, body = encode_response("there", None, "r1", tensors, binary=True)
    named = {name.lower().replace("-", "_"): value for name, value in headers.items()}
    upstream.say(body, **named, **more)


async def test_tensors_go_there_and_back_as_raw_bytes(upstream, backend):
    answer(upstream, {"probability": np.array([0.5, 0.25], np.float32)})
    ran = await backend.infer({**TENSORS, **BYTES}, ticket())
    assert ran.tensors["probability"].tolist() == [0.5, 0.25]
    assert ran.batch == 2
    assert ran.run_s > 0
    method, path, headers, body = upstream.asked[-1]
    assert (method, path) == ("POST", "/v2/models/there/1/infer")
    asked = decode_request(body, header_length_of(headers["inference-header-content-length"]))
    assert asked.id == "r1"
    assert asked.binary_output
    assert asked.tensors["features"].tolist() == TENSORS["features"].tolist()
    assert asked.tensors["text"].tolist() == BYTES["text"].tolist()
    assert headers["x-latency-class"] == "realtime"
    assert 0 < int(headers["x-deadline-ms"]) <= 60_000
    assert headers["x-deadline-left"] == "1"


async def test_it_starts_when_the_model_is_ready_there(upstream, url, pauses):
    upstream.say({"error": "loading"}, status=503)
    upstream.say({})
    backend = backend_of(url, sleep=pauses)
    assert backend.active is None
    await backend.start()
    assert [path for _, path, _, _ in upstream.asked] == ["/v2/models/there/ready"] * 2
    assert backend.active.engine == "open-inference"
    assert len(pauses) == 1
    await backend.stop()


async def test_a_server_that_never_gets_ready_is_a_failed_load(tmp_path, pauses):
    times = iter(range(0, 100, 20))
    absent = f"unix://{tmp_path / 'absent.sock'}"
    backend = backend_of(absent, clock=lambda: next(times), sleep=pauses)
    with pytest.raises(LoadFailed, match=r"did not become ready: \w*ConnectorError"):
        await backend.start()
    await backend.stop()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (400, {"error": "bad shape"}, InvalidRequest, "bad shape"),
        (422, {"error": "deadline_ms: 1 ms is too little"}, DeadlineUnreachable, "1 ms is too"),
        (
            400,
            {"error": {"message": "too short", "param": "deadline_ms"}},
            DeadlineUnreachable,
            "too short",
        ),
        (404, {"error": "no such model"}, UpstreamFailed, "answered 404: no such model"),
        (500, b"<html>boom", UpstreamFailed, "answered 500: <html>boom"),
        (401, {"detail": "who?"}, UpstreamFailed, "answered 401: who.; check its key"),
        (307, b"", UpstreamFailed, "answered 307"),
    ],
)
async def test_refusals_keep_the_servers_words(upstream, backend, status, body, error, says):
    upstream.say(body, status=status)
    with pytest.raises(error, match=says):
        await backend.infer(TENSORS, ticket())
    assert backend.load_now().running == 0


async def test_busy_servers_are_asked_again_when_they_say(upstream, backend, pauses):
    upstream.say({"error": "full"}, status=503, retry_after="2")
    upstream.say({"error": "full"}, status=429)
    answer(upstream, {"probability": np.zeros(2)})
    await backend.infer(TENSORS, ticket())
    assert pauses == [2.0, 0.2]


async def test_no_second_try_goes_beyond_the_deadline(upstream, backend, pauses):
    upstream.say({"error": "full"}, status=503, retry_after="30")
    with pytest.raises(CapacityError, match="'here' is busy: full") as busy:
        await backend.infer(TENSORS, ticket(in_s=20))
    assert busy.value.retry_after_s == 30
    assert not pauses


async def test_tries_are_counted(upstream, backend, pauses):
    for _ in range(5):
        upstream.say({"error": "full"}, status=503)
    with pytest.raises(CapacityError, match="busy"):
        await backend.infer(TENSORS, ticket())
    assert len(pauses) == 2


async def test_a_passed_deadline_is_not_sent(upstream, backend):
    before = len(upstream.asked)
    with pytest.raises(DeadlineUnreachable):
        await backend.infer(TENSORS, ticket(in_s=-1))
    assert len(upstream.asked) == before


@pytest.mark.parametrize("body", [b"not json", {"outputs": [{"name": "y"}]}])
async def test_a_malformed_answer_is_the_upstreams_failure(upstream, backend, body):
    upstream.say(body)
    with pytest.raises(UpstreamFailed, match="is malformed"):
        await backend.infer(TENSORS, ticket())


async def test_the_connection_is_kept(upstream, url, backend):
    for _ in range(3):
        answer(upstream, {"probability": np.zeros(2)})
        await backend.infer(TENSORS, ticket())
    assert all(headers.get("connection") != "close" for _, _, headers, _ in upstream.asked)


async def test_an_answer_without_the_public_outputs_is_the_upstreams_failure(upstream, backend):
    answer(upstream, {"score": np.zeros(2)})
    with pytest.raises(UpstreamFailed, match=r"did not answer with probability \(it gave score"):
        await backend.infer(TENSORS, ticket())


@pytest.mark.parametrize("shape", [(6,), (1,), (3, 2), ()])
async def test_an_answer_of_other_rows_is_the_upstreams_error(upstream, backend, shape):
    answer(upstream, {"probability": np.zeros(shape, np.float32)})
    with pytest.raises(UpstreamFailed, match="inputs of 2 rows"):
        await backend.infer(TENSORS, ticket())


async def test_tensors_that_nobody_requested_are_left_out(upstream, backend):
    more = {"model_version": np.array([7], np.int64)}
    answer(upstream, {"probability": np.array([0.5, 0.25], np.float32)} | more)
    ran = await backend.infer(TENSORS, ticket())
    assert list(ran.tensors) == ["probability"]
