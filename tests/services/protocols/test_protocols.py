from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.services.conftest import Rig, paths_of
from turnout.types import JsonFormat

CHAT = "/v1/chat/completions"
FRAUD = "/v2/models/fraud/infer"
HI = [{"role": "user", "content": "hi"}]


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}
    return {"inputs": [whole | changes]}


# -- OpenAI ---------------------------------------------------------------------------------------


async def test_a_completion_has_openais_shape(rig: Rig) -> None:
    reply = await rig.client.post(CHAT, json={"model": "auto", "messages": HI, "logprobs": True})
    body = reply.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "chat-small"
    assert body["choices"][0]["message"]["content"] == "chat-small says hi"
    assert body["choices"][0]["finish_reason"] == "stop"
    listed = body["choices"][0]["logprobs"]["content"]
    assert [e["token"] for e in listed] == ["chat-small ", "says ", "hi"]
    assert [e["logprob"] for e in listed] == [-0.5] * 3
    assert listed[2]["bytes"] == list(b"hi")
    assert listed[2]["top_logprobs"] == [
        {"token": "\N{REPLACEMENT CHARACTER}", "logprob": -0.7, "bytes": [0xC3]}
    ]
    assert body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


@pytest.mark.parametrize(
    ("wrong", "says", "param"),
    [
        ({"n": 2}, "one answer a request", "n"),
        ({"top_logprobs": 2}, "needs logprobs: true", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "'json_schema'", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "is missing: give",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "is missing",
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_what_a_chat_body_may_not_ask(
    rig: Rig, wrong: dict[str, Any], says: str, param: str
) -> None:
    reply = await rig.client.post(CHAT, json={"messages": HI, **wrong})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert says in error["message"]
    assert error["param"] == param


async def test_the_form_of_an_answer_reaches_the_engine(rig: Rig) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    for asked in (form, {"type": "json_object"}, {"type": "text"}):
        ask = {"model": "chat-small", "messages": HI, "response_format": asked}
        assert (await rig.client.post(CHAT, json=ask)).status_code == 200
    given, anything, free = (each.json for each in rig.backends["chat-small"].asked)
    assert given is not None
    assert (json.loads(given.schema or ""), given.name, given.strict) == (schema, "a", True)
    assert anything == JsonFormat()
    assert free is None


async def test_a_stream_is_server_sent_events_with_usage_and_an_end(rig: Rig) -> None:
    ask = {"messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    reply = await rig.client.post(CHAT, json=ask)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in reply.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line[6:]) for line in lines[:-1]]
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
    assert text == "chat-small says hi"
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] == 10
    assert all(event["usage"] is None for event in events[:-1])


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_have_openais_shape(rig: Rig, encoding: str) -> None:
    ask = {"model": "embed", "input": ["a", "b"], "encoding_format": encoding}
    body = (await rig.client.post("/v1/embeddings", json=ask)).json()
    assert [entry["index"] for entry in body["data"]] == [0, 1]
    vector = body["data"][1]["embedding"]
    if encoding == "base64":
        vector = np.frombuffer(base64.b64decode(vector), "<f4").tolist()
    assert vector == [1.0] * 384
    assert body["model"] == "embedder"


async def test_models_lists_auto_routes_and_models(rig: Rig) -> None:
    names = {model["id"] for model in (await rig.client.get("/v1/models")).json()["data"]}
    assert {"auto", "chat", "fraud", "chat-large"} <= names


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[1]", 400, None),
        (b"\xff\xfe", 400, None),
        ({}, 400, "messages"),
        ({"messages": []}, 400, "messages"),
        ({"messages": "hi"}, 400, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": HI, "max_tokens": 0}, 400, "max_tokens"),
        ({"messages": HI, "temperature": "hot"}, 400, "temperature"),
        ({"messages": HI, "n": 2}, 400, "n"),
        ({"messages": HI, "tools": [{"type": "function"}]}, 400, "tools"),
        ({"messages": HI, "model": "gpt-9"}, 404, "model"),
        ({"messages": HI, "model": "fraud"}, 404, "model"),
        ({"messages": HI, "routing": {"speed": 9}}, 400, "routing"),
        ({"messages": HI, "routing": "fast"}, 400, "routing"),
        ({"messages": HI, "routing": {"latency_class": "warp"}}, 400, "latency_class"),
        ({"messages": HI, "routing": {"deadline_ms": -5}}, 400, "deadline_ms"),
        ({"messages": [{"role": "user", "content": "x" * 70_000}]}, 413, None),
    ],
)
async def test_a_bad_chat_is_refused_in_openais_shape(
    rig: Rig, body: Any, status: int, param: str | None
) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await rig.client.post(CHAT, content=sent)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    if param is not None:
        assert error["param"].startswith(param)


# -- Open Inference -------------------------------------------------------------------------------


async def test_metadata_says_the_tensors_and_what_runs(rig: Rig) -> None:
    model = (await rig.client.get("/v2/models/fraud-small")).json()
    assert model["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 15]}]
    assert model["parameters"]["provider"] == "cpu"
    route = (await rig.client.get("/v2/models/fraud/versions/1")).json()
    assert route["parameters"]["candidates"] == ["fraud-small", "fraud-large"]
    server = (await rig.client.get("/v2")).json()
    assert server["name"] == "turnout"
    assert "binary_tensor_data" in server["extensions"]


async def test_routing_comes_by_header_and_by_parameter(rig: Rig) -> None:
    by_parameter = tensor() | {"parameters": {"latency_class": "bulk"}}
    reply = await rig.client.post(FRAUD, json=by_parameter)
    assert reply.headers["x-turnout-model"] == "fraud-large"
    by_object = tensor() | {"routing": {"latency_class": "bulk"}}
    reply = await rig.client.post(FRAUD, json=by_object)
    assert reply.headers["x-turnout-model"] == "fraud-large"
    cheap = await rig.client.post(
        FRAUD, json=by_object, headers={"X-Max-Cost-Usd": "0.000002", "X-Latency-Class": "bulk"}
    )
    assert cheap.headers["x-turnout-model"] == "fraud-small"


async def test_outputs_are_binary_when_asked(rig: Rig) -> None:
    ask = tensor() | {"parameters": {"binary_data_output": True}, "id": "abc"}
    reply = await rig.client.post(FRAUD, json=ask)
    length = int(reply.headers["inference-header-content-length"])
    head = json.loads(reply.content[:length])
    assert head["id"] == "abc"
    assert np.frombuffer(reply.content[length:], "<f4").tolist() == [0.0]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"),
        ({}, 400, "inputs"),
        (tensor(shape=[1, 14], data=[0.5] * 14), 400, "[n, 15]"),
        (tensor(shape=[15]), 400, "[n, 15]"),
        (tensor(shape=[2, 15]), 400, "30"),
        (tensor(shape=[0, 15], data=[]), 400, "no rows"),
        (tensor(datatype="INT64", data=[1] * 15), 400, "FP32"),
        (tensor(datatype="FP8"), 400, "FP8"),
        (tensor(name="x"), 400, "features"),
        (tensor(data=["a"] * 15), 400, "features"),
        (tensor() | {"outputs": [{"name": "nope"}]}, 400, "nope"),
        (tensor() | {"parameters": {"latency_class": "warp"}}, 400, "warp"),
        (tensor() | {"parameters": {"min_quality": 2}}, 400, "min_quality"),
    ],
)
async def test_a_bad_inference_is_refused_in_the_protocols_shape(
    rig: Rig, body: Any, status: int, said: str
) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await rig.client.post(FRAUD, content=sent)
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    assert said in reply.json()["error"]


@pytest.mark.parametrize("length", ["10000", "-1", "abc", "5"])
async def test_a_wrong_header_length_is_refused(rig: Rig, length: str) -> None:
    reply = await rig.client.post(
        FRAUD, json=tensor(), headers={"Inference-Header-Content-Length": length}
    )
    assert reply.status_code == 400


async def test_unknown_models_are_404_and_name_what_there_is(rig: Rig) -> None:
    for verb, path in (("POST", "/infer"), ("GET", ""), ("GET", "/ready")):
        reply = await rig.client.request(verb, f"/v2/models/nope{path}", json=tensor())
        assert reply.status_code == 404
        assert "fraud" in reply.json()["error"]


# -- native ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "route"),
    [
        ({"messages": HI}, "chat"),
        ({"features": [[0.5] * 15]}, "fraud"),
        ({"text": ["a"]}, "embed"),
        ({"image": [base64.b64encode(b"x").decode()]}, "image"),
    ],
)
async def test_route_decides_without_running(rig: Rig, inputs: dict[str, Any], route: str) -> None:
    for name in (route, "auto"):
        body = {"route": name, "inputs": inputs, "latency_class": "interactive"}
        reply = await rig.client.post("/v1/route", json=body)
        assert reply.status_code == 200, reply.text
        decision = reply.json()
        assert set(decision) == {
            "decision_id", "model", "fallbacks", "reason", "latency_class", "candidates",
        }  # fmt: skip
        assert set(decision["candidates"][0]) == {
            "model", "quality", "p50_ms", "p95_ms", "cost_usd", "feasible", "why_not",
        }  # fmt: skip
    assert all(not backend.seen for backend in rig.backends.values())


async def test_route_takes_the_routing_object_and_refuses_what_never_holds(rig: Rig) -> None:
    asked = {"route": "fraud", "inputs": {"features": [[0.5] * 15]}}
    reply = await rig.client.post("/v1/route", json=asked | {"routing": {"latency_class": "bulk"}})
    assert reply.json()["latency_class"] == "bulk"
    for bad, status, param in (
        ({"routing": {"speed": 9}}, 400, "routing"),
        ({"routing": "fast"}, 400, "routing"),
        ({"routing": {"deadline_ms": 0.001}}, 422, "deadline_ms"),
        ({"deadline_ms": 0.001}, 422, "deadline_ms"),
    ):
        for name in ("realtime", "interactive", "bulk"):
            reply = await rig.client.post(
                "/v1/route", json=asked | bad, headers={"X-Latency-Class": name}
            )
            assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_chat_with_a_deadline_of_its_own_that_never_holds_is_always_422(
    rig: Rig, streamed: bool
) -> None:
    impossible, left = {"X-Deadline-Ms": "0.001"}, {"X-Deadline-Left": "1"}
    body = {"messages": HI, "stream": streamed}
    for headers, status in ((impossible, 422), (impossible | left, 200)):
        reply = await rig.client.post(CHAT, json=body, headers=headers)
        assert reply.status_code == status
    assert reply.headers["x-turnout-reason"].startswith("no candidate is sure to hold")


@pytest.mark.parametrize(
    "body",
    [
        {"route": "fraud"},
        {"route": "fraud", "inputs": {}},
        {"route": "fraud", "inputs": {"features": "x"}},
        {"route": "fraud", "inputs": {"features": [[1.0]]}},
        {"route": "image", "inputs": {"image": ["***"]}},
        {"route": "chat", "inputs": {"messages": 3}},
        {"route": 7, "inputs": {"messages": HI}},
        {"route": "fraud", "inputs": {"features": [[0.5] * 15]}, "deadline_ms": "soon"},
        {"route": "fraud", "inputs": {"features": [[0.5] * 15]}, "speed": 3},
    ],
)
async def test_a_bad_route_is_refused(rig: Rig, body: dict[str, Any]) -> None:
    reply = await rig.client.post("/v1/route", json=body)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"code", "message", "param"}


async def test_feedback_is_kept_with_its_decision(rig: Rig) -> None:
    reply = await rig.client.post(FRAUD, json=tensor())
    name = reply.headers["x-turnout-decision"]
    said = await rig.client.post("/v1/feedback", json={"decision_id": name, "score": 1})
    assert said.status_code == 202
    record = (await rig.client.get(f"/v1/decisions/{name}")).json()
    assert record["feedback"] == [{"score": 1.0, "comment": None}]
    for bad, status in (
        ({"decision_id": name, "score": 2}, 400),
        ({"decision_id": name}, 400),
        ({"decision_id": 5, "score": 1}, 400),
        ({"decision_id": "nope", "score": 1}, 404),
    ):
        assert (await rig.client.post("/v1/feedback", json=bad)).status_code == status


async def test_what_is_not_ours_goes_to_bentoml(rig: Rig) -> None:
    for path in ("/docs.json", "/classify", "/v3/unknown"):
        assert (await rig.client.get(path)).status_code == 418
    assert (await rig.client.options("/v1/unknown")).status_code == 418


async def test_a_path_that_is_nobodys_says_what_there_is_in_its_protocols_shape(rig: Rig) -> None:
    for path in ("/v1/completions", "/v1/responses", "/v1/"):
        reply = await rig.client.post(path, json={})
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (404, "unknown_path")
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith(f"nothing answers at {path}; there are /v1/")
        assert "/v1/chat/completions" in error["message"]
    await rig.client.get("/v2/models/fraud/ready")  # a path that is remembered is not listed
    for path in ("/v2/models/fraud/unload", "/v2/nothing"):
        reply = await rig.client.get(path)
        assert reply.status_code == 404
        said = reply.json()["error"]
        assert f"nothing answers at {path}; there are " in said
        assert "/v2/models/NAME/infer" in said
        assert "/v2/models/fraud/ready" not in said


async def test_a_name_that_does_something_else_is_said_to(rig: Rig) -> None:
    for name in ("fraud", "fraud-small"):
        reply = await rig.client.post(CHAT, json={"messages": HI, "model": name})
        assert reply.status_code == 404
        said = reply.json()["error"]["message"]
        assert said.startswith(f"'{name}' does tabular, and this request is for chat; for that")
        assert "chat-small" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n": 2}, "n: one answer a request; send the request again for another (got 2)"),
        ({"messages": []}, "messages: must hold at least 1, and holds 0"),
        ({"messages": [{"role": "user", "content": 5}]},
         "messages.0.content: must be text or a list (got 5)"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages.0.content.0.type: only parts of type text are taken: no model here reads "
         "others (got 'image_url')"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: is missing"),
        ({"stop": ["a"] * 9}, "stop: must hold at most 4, and holds 9"),
        ({"temperature": 3}, "temperature: must be at most 2.0 (got 3)"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: is missing"),
    ],
)  # fmt: skip
async def test_a_bad_field_is_named_as_the_caller_wrote_it(
    rig: Rig, changes: dict[str, Any], says: str
) -> None:
    error = (await rig.client.post(CHAT, json={"messages": HI} | changes)).json()["error"]
    assert error["message"].startswith(says)
    assert error["param"] == says.partition(":")[0]


async def test_no_caller_makes_the_front_door_remember_paths_without_end(rig: Rig) -> None:
    assert (await rig.client.get("/v2/models/fraud/ready")).status_code == 200
    known = paths_of(rig.door)
    assert "/v2/models/fraud/infer" in known
    for index in range(2, 20):
        path = f"/v2/models/fraud/versions/{index}/ready"
        reply = await rig.client.get(path)
        assert reply.status_code == 404
        assert f"fraud@{index}" in reply.text
    assert paths_of(rig.door) == known
    assert (await rig.client.get("/v2/models/fraud/versions/1/ready")).status_code == 200
