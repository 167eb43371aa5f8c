from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.services.conftest import Rig
from turnout.errors import LoadFailed, RunFailed

ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


def images(*confidences: float) -> dict[str, Any]:
    data = [str(value) for value in confidences]
    shape = [len(data)]
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": shape, "data": data}]}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **more}


async def test_the_class_decides_and_the_answer_says_why(rig: Rig) -> None:
    fast = await rig.client.post("/v2/models/fraud/infer", json=ROW)
    bulk = await rig.client.post(
        "/v2/models/fraud/infer", json=ROW, headers={"X-Latency-Class": "bulk"}
    )
    assert fast.headers["x-turnout-model"] == "fraud-small"
    assert bulk.headers["x-turnout-model"] == "fraud-large"
    assert "fraud-small" in bulk.headers["x-turnout-reason"]
    assert bulk.json()["outputs"][0]["data"] == [1.0]
    assert rig.backends["fraud-large"].seen[0].priority == 2


async def test_a_failing_model_is_replaced_and_then_left_alone(rig: Rig) -> None:
    rig.backends["fraud-small"].error = RunFailed("fraud-small", "boom")
    for _ in range(8):
        reply = await rig.client.post("/v2/models/fraud/infer", json=ROW)
        assert reply.status_code == 200
        assert reply.headers["x-turnout-model"] == "fraud-large"
    assert len(rig.backends["fraud-small"].seen) == 5
    decided = await rig.client.post(
        "/v1/route", json={"route": "fraud", "inputs": {"features": [[0.5] * 15]}}
    )
    why = {c["model"]: c["why_not"] for c in decided.json()["candidates"]}
    assert "boom" in why["fraud-small"]


async def test_when_every_candidate_fails_the_first_error_is_told(rig: Rig) -> None:
    for name in ("fraud-small", "fraud-large"):
        rig.backends[name].error = RunFailed(name, "boom")
    reply = await rig.client.post("/v2/models/fraud/infer", json=ROW)
    assert reply.status_code == 500
    assert "fraud-small" in reply.json()["error"]
    ended = rig.count(
        "turnout_requests_total", route="fraud", model="fraud-small",
        latency_class="realtime", status="run_failed",
    )  # fmt: skip
    assert ended == 1


async def test_a_model_that_cannot_load_leaves_the_others_serving(
    make_rig: Callable[..., Rig],
) -> None:
    def prepare(backends: dict[str, Any]) -> None:
        backends["fraud-small"].load_error = LoadFailed("fraud-small", "model.onnx is corrupt")

    rig = make_rig(prepare)
    await rig.plane.fleet.settled()
    reply = await rig.client.post("/v2/models/fraud/infer", json=ROW)
    assert reply.headers["x-turnout-model"] == "fraud-large"
    alone = await rig.client.post("/v2/models/fraud-small/infer", json=ROW)
    assert alone.status_code == 503
    assert "corrupt" in alone.json()["error"]
    assert (await rig.client.get("/v2/models/fraud-small/ready")).status_code == 503
    assert (await rig.client.get("/v2/models/fraud/ready")).status_code == 200


async def test_a_request_waits_for_a_model_that_still_loads(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    assert (await rig.client.get("/readyz")).status_code == 503
    reply = await rig.client.post(
        "/v2/models/fraud/infer", json=ROW, headers={"X-Latency-Class": "interactive"}
    )
    assert reply.status_code == 200
    assert (await rig.client.get("/readyz")).status_code == 200


async def test_a_cascade_sends_only_unsure_rows_on(rig: Rig) -> None:
    reply = await rig.client.post("/v2/models/image/infer", json=images(0.9, 0.2, 0.8, 0.1))
    outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
    assert outputs["class_id"] == [0, 1, 0, 1]
    assert rig.backends["image-large"].rows == [2]
    assert reply.headers["x-turnout-model"] == "image-large"
    sure = await rig.client.post("/v2/models/image/infer", json=images(0.9))
    assert sure.headers["x-turnout-model"] == "image-small"


async def test_a_cascade_keeps_the_cheap_answer_when_the_large_one_fails(rig: Rig) -> None:
    rig.backends["image-large"].error = RunFailed("image-large", "boom")
    reply = await rig.client.post("/v2/models/image/infer", json=images(0.1))
    assert reply.status_code == 200
    assert reply.headers["x-turnout-model"] == "image-small"


async def test_a_generation_falls_back_before_its_first_word_only(rig: Rig) -> None:
    small = rig.backends["chat-small"]
    small.error = RunFailed("chat-small", "boom")
    reply = await rig.client.post("/v1/chat/completions", json=chat())
    assert reply.headers["x-turnout-model"] == "chat-large"
    small.after = 1
    broken = await rig.client.post("/v1/chat/completions", json=chat())
    assert broken.status_code == 500
    streamed = await rig.client.post("/v1/chat/completions", json=chat(stream=True))
    assert streamed.status_code == 200
    assert "boom" in streamed.text
    assert "[DONE]" not in streamed.text


@pytest.mark.parametrize("stream", [False, True])
async def test_work_stops_when_the_client_goes(rig: Rig, stream: bool) -> None:
    small = rig.backends["chat-small"]
    small.gate = asyncio.Event()
    sent: list[Any] = []
    left = asyncio.Event()
    body = [{"type": "http.request", "body": json.dumps(chat(stream=stream)).encode()}]

    async def receive() -> Any:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    answering = asyncio.ensure_future(rig.door(scope, receive, send))
    while not small.seen:
        await asyncio.sleep(0)
    left.set()
    await answering
    assert small.cancelled == 1
    assert sent == []


async def test_while_draining_nothing_new_is_taken(rig: Rig) -> None:
    rig.plane.draining = True
    reply = await rig.client.post("/v2/models/fraud/infer", json=ROW)
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert (await rig.client.get("/readyz")).status_code == 503


async def test_every_decision_can_be_looked_up_with_its_outcome(rig: Rig) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    reply = await rig.client.post(
        "/v2/models/fraud/infer", json=ROW, headers={"traceparent": trace}
    )
    found = await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])
    record = found.json()
    assert record["outcome"]["status"] == "ok"
    assert record["outcome"]["queue_ms"] == pytest.approx(1.0)
    assert record["route"] == "fraud"
    assert record["rule"] == "cheapest"
    assert record["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert len(record["candidates"]) == 2


async def test_metrics_count_what_happened(rig: Rig) -> None:
    for _ in range(3):
        await rig.client.post("/v2/models/fraud/infer", json=ROW)
    await rig.client.post("/v1/chat/completions", json=chat())
    ok = {"model": "fraud-small", "latency_class": "realtime"}
    assert rig.count("turnout_requests_total", route="fraud", status="ok", **ok) == 3
    assert rig.count("turnout_decisions_total", route="fraud", rule="cheapest", **ok) == 3
    held = {"route": "fraud", "latency_class": "realtime", "held": "true"}
    assert rig.count("turnout_deadlines_total", **held) == 3
    assert rig.count("turnout_tokens_total", model="chat-small", kind="output") == 3


async def test_a_session_is_named_by_header_or_body(rig: Rig) -> None:
    body = await rig.client.post("/v1/chat/completions", json=chat(routing={"session": "s-1"}))
    header = await rig.client.post(
        "/v1/chat/completions", json=chat(), headers={"X-Session-Id": "s-1"}
    )
    first = await rig.client.get("/v1/decisions/" + body.headers["x-turnout-decision"])
    second = await rig.client.get("/v1/decisions/" + header.headers["x-turnout-decision"])
    assert first.json()["session"] == "s-1"
    assert (first.json()["rule"], second.json()["rule"]) == ("cheapest", "session")
    long = await rig.client.post(
        "/v1/chat/completions", json=chat(), headers={"X-Session-Id": "s" * 300}
    )
    assert long.status_code == 400
    assert "session" in long.text


async def test_a_callers_limit_holds_for_a_cascade_and_for_fallbacks(rig: Rig) -> None:
    cheap = {"X-Max-Cost-Usd": "0.000001"}
    unsure = await rig.client.post("/v2/models/image/infer", json=images(0.1), headers=cheap)
    assert unsure.headers["x-turnout-model"] == "image-small"
    assert rig.backends["image-large"].seen == []
    rig.backends["image-small"].error = RunFailed("image-small", "boom")
    failed = await rig.client.post("/v2/models/image/infer", json=images(0.9), headers=cheap)
    assert failed.status_code == 500
    assert rig.backends["image-large"].seen == []
    free = await rig.client.post("/v2/models/image/infer", json=images(0.9))
    assert free.headers["x-turnout-model"] == "image-large"


async def test_a_client_that_leaves_a_cascades_second_step_is_accounted_for(rig: Rig) -> None:
    large = rig.backends["image-large"]
    large.gate = asyncio.Event()
    asked = asyncio.ensure_future(rig.client.post("/v2/models/image/infer", json=images(0.1)))
    while not large.seen:
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    ended = {"route": "image", "model": "image-small", "latency_class": "interactive"}
    assert rig.count("turnout_requests_total", status="cancelled", **ended) == 1
