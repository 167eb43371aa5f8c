from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.services.conftest import Rig
from turnout.errors import RunFailed

UNSURE = -2.0


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "careful", "messages": [{"role": "user", "content": "hi"}], **more}


async def trace(rig: Rig, reply: Any) -> dict[str, Any]:
    found = await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])
    return found.json()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unsure_text_is_written_again_before_anything_is_sent(
    rig: Rig, stream: bool
) -> None:
    rig.backends["chat-small"].logprob = UNSURE
    reply = await rig.client.post("/v1/chat/completions", json=ask(stream=stream))
    assert reply.headers["x-turnout-model"] == "chat-large"
    assert "chat-large" in reply.text
    assert "chat-small says" not in reply.text
    record = await trace(rig, reply)
    told = record["escalation"]
    assert (told["to"], told["rows"], told["of"], told["done"]) == ("chat-large", 1, 1, True)
    assert told["confidence"] == pytest.approx(0.1353, abs=1e-3)
    assert [each["model"] for each in record["attempts"]] == ["chat-small", "chat-large"]
    expected = record["candidates"][0]["cost_usd"] + 3 * 9.0e-6
    assert record["outcome"]["cost_usd"] == pytest.approx(expected)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_sure_text_stands(rig: Rig, stream: bool) -> None:
    reply = await rig.client.post("/v1/chat/completions", json=ask(stream=stream))
    assert reply.headers["x-turnout-model"] == "chat-small"
    assert rig.backends["chat-large"].seen == []
    assert (await trace(rig, reply))["escalation"]["rows"] == 0


async def test_an_unsure_text_stands_when_the_better_model_fails(rig: Rig) -> None:
    rig.backends["chat-small"].logprob = UNSURE
    rig.backends["chat-large"].error = RunFailed("chat-large", "boom")
    reply = await rig.client.post("/v1/chat/completions", json=ask())
    assert reply.status_code == 200
    assert reply.headers["x-turnout-model"] == "chat-small"
    record = await trace(rig, reply)
    assert "boom" in record["escalation"]["why"]
    assert [(each["model"], each["status"]) for each in record["attempts"]] == [
        ("chat-large", "run_failed"),
        ("chat-small", "ok"),
    ]


@pytest.mark.parametrize(("limit", "escalates"), [(1.05e-5, False), (1.15e-5, True)])
async def test_a_cost_limit_holds_for_both_answers_together(
    make_rig: Callable[..., Rig], limit: float, escalates: bool
) -> None:
    rig = make_rig()
    await rig.plane.fleet.settled()
    cheap, dear = (rig.plane.catalog.models[f"image-{size}"].cost for size in ("small", "large"))
    assert (cheap.usd_per_request, dear.usd_per_request) == (1e-6, 1e-5)
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["0.2"]}]}
    headers = {"X-Max-Cost-Usd": str(limit)}
    reply = await rig.client.post("/v2/models/image/infer", json=body, headers=headers)
    assert reply.headers["x-turnout-model"] == ("image-large" if escalates else "image-small")
    told = (await trace(rig, reply))["escalation"]
    assert told["done"] is escalates
    assert ("over the limit" in told["why"]) is not escalates


async def test_a_model_that_fails_while_it_is_judged_is_replaced(rig: Rig) -> None:
    small = rig.backends["chat-small"]
    small.error, small.after = RunFailed("chat-small", "boom"), 1
    reply = await rig.client.post("/v1/chat/completions", json=ask())
    assert reply.status_code == 200
    assert reply.headers["x-turnout-model"] == "chat-large"


async def test_log_probabilities_are_shown_only_to_who_asks(rig: Rig) -> None:
    plain = await rig.client.post("/v1/chat/completions", json=ask())
    asked = await rig.client.post("/v1/chat/completions", json=ask(logprobs=True))
    assert plain.json()["choices"][0]["logprobs"] is None
    assert asked.json()["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.5


async def test_classes_that_do_not_cascade_take_the_cheapest_that_reaches_the_target(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    await rig.plane.fleet.settled()
    rig.backends["chat-small"].logprob = UNSURE
    bulk = await rig.client.post(
        "/v1/chat/completions", json=ask(routing={"latency_class": "bulk"})
    )
    record = await trace(rig, bulk)
    assert (record["policy"], record["rule"]) == ("cheapest", "quality")
    assert record["escalation"] is None
    assert bulk.headers["x-turnout-model"] == "chat-large"
