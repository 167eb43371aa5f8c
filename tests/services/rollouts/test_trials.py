"""A canary on trial behind the front door: who answers, what callers see, what is concluded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routing.replay.log import read_rows
from routing.replay.replay import Change, replay
from tests.services.rollouts.conftest import CATALOG, Serve


def faulty(fail: str, more: str = "") -> str:
    """The catalog with a canary that fails."""
    broken = "2: {runner: {engine: fake, latency_ms: 1, fail: " + fail + more + "}}"
    return CATALOG.replace("      2: {}", f"      {broken}")


async def test_a_canary_answers_its_share_and_a_session_stays_on_its_side(serve: Serve) -> None:
    gateway = await serve()
    found = await gateway.answered(400)
    assert found.keys() == {"ranker@1", "ranker@2"}
    assert 110 <= found["ranker@2"] <= 210  # 0.4 +- 5 sigma
    for session in range(20):
        headers = {"X-Session-Id": f"s{session}"}
        models = {(await gateway.ask(**headers)).headers["x-turnout-model"] for _ in range(3)}
        assert len(models) == 1
    assert await gateway.answered(50, "careful") == {"ranker@1": 50}
    assert await gateway.answered(20, "ranker@2") == {"ranker@2": 20}
    trial = gateway.plane.rollouts.state("ranker")["trial"]
    assert trial["requests"]["canary"] + trial["requests"]["production"] == 460


async def test_an_answer_says_which_version_and_why(serve: Serve) -> None:
    gateway = await serve()
    replies = [await gateway.ask("ranker") for _ in range(30)]
    for reply in replies:
        record, model = await gateway.decision(reply), reply.headers["x-turnout-model"]
        canary = model == "ranker@2"
        assert reply.json()["model_name"] == "ranker"
        assert reply.json()["model_version"] == model[-1]
        assert (record["rule"] == "canary") is canary
        assert ("on trial" in reply.headers["x-turnout-reason"]) is canary
        assert record["propensity"] == pytest.approx(0.4 if canary else 0.6)
        version = record["version"]
        assert (version["draw"] < version["share"]) is canary
        assert version["part"] == ("canary" if canary else "production")
        if canary:
            propensities = {one["model"]: one["propensity"] for one in record["candidates"]}
            assert propensities == pytest.approx({"ranker@1": 0.6, "ranker@2": 0.4})
    assert len({reply.headers["x-turnout-model"] for reply in replies}) == 2


@pytest.mark.parametrize("fail", ["run", "nan", "load"])
async def test_a_canary_that_fails_is_taken_back_and_callers_see_nothing(
    serve: Serve, fail: str
) -> None:
    gateway = await serve(faulty(fail))
    assert await gateway.answered(80) == {"ranker@1": 80}
    await gateway.plane.rollouts.beat()
    state = gateway.plane.rollouts.state("ranker")
    assert (state["canary"], state["taken_back"]) == (None, "2")
    assert state["why"].startswith("version 2 was taken back: failed: 100.0%")
    taken = {"model": "ranker", "version": "2", "why": "failed"}
    assert gateway.count("turnout_canary_taken_back_total", **taken) == 1
    drawn = {"model": "ranker", "version": "2", "part": "canary", "ended": "failed"}
    failed = gateway.count("turnout_canary_requests_total", **drawn)
    assert 13 <= failed <= 40
    assert gateway.count("turnout_canary_verdict", model="ranker", version="2") == -1
    record = await gateway.decision(await gateway.ask())
    assert record["version"] is None
    shown = await gateway.client.get("/v2/models/ranker/versions/2")
    assert shown.json()["parameters"]["verdict"] == "taken back"


async def test_a_slow_canary_is_taken_back(serve: Serve) -> None:
    gateway = await serve(faulty("slow", ", after_runs: 0"))
    while gateway.plane.rollouts.state("ranker")["canary"] is not None:
        await gateway.answered(20)
        await gateway.plane.rollouts.beat()
    assert "slow" in gateway.plane.rollouts.state("ranker")["why"]


async def test_feedback_on_a_canary_can_take_it_back(serve: Serve) -> None:
    gateway = await serve()
    for _ in range(300):
        reply = await gateway.ask()
        bad = reply.headers["x-turnout-model"] == "ranker@2"
        said = {"decision_id": reply.headers["x-turnout-decision"], "score": 0.1 if bad else 0.9}
        assert (await gateway.client.post("/v1/feedback", json=said)).status_code == 202
        if gateway.plane.rollouts.trials["ranker"][1].worse:
            break
    await gateway.plane.rollouts.beat()
    assert "unhappy" in gateway.plane.rollouts.state("ranker")["why"]


async def test_feedback_on_one_answer_counts_once_however_often_it_is_sent(serve: Serve) -> None:
    gateway = await serve()
    replies = [await gateway.ask() for _ in range(40)]
    for reply in replies:
        said = {"decision_id": reply.headers["x-turnout-decision"], "score": 1.0}
        assert (await gateway.client.post("/v1/feedback", json=said)).status_code == 202
    canary = next(r for r in replies if r.headers["x-turnout-model"] == "ranker@2")
    for _ in range(200):
        said = {"decision_id": canary.headers["x-turnout-decision"], "score": 0.0}
        assert (await gateway.client.post("/v1/feedback", json=said)).status_code == 202
    trial = gateway.plane.rollouts.state("ranker")["trial"]
    assert (trial["verdict"], trial["tests"]["unhappy"]["canary"]) == ("watching", 0.0)
    kept = (await gateway.decision(canary))["feedback"]
    assert [one["score"] for one in kept] == [0.0] * 16
    assert gateway.count("turnout_feedback_total", route="rank", model="ranker@2") > 200


async def test_a_canary_that_is_shown_to_be_no_worse_may_be_promoted_by_itself(
    serve: Serve,
) -> None:
    gateway = await serve(
        CATALOG.replace(
            "share: 0.4",
            "share: 0.5, promote_after: 30, "
            "rollback: {failed: 0.3, late: 0.3, slow: 0.5, slower: 50}",
        )
    )
    while gateway.plane.rollouts.state("ranker")["production"] == "1":
        await gateway.answered(20)
        await gateway.plane.rollouts.beat()
    state = gateway.plane.rollouts.state("ranker")
    assert (state["production"], state["previous"], state["canary"]) == ("2", "1", None)
    assert await gateway.answered(10) == {"ranker@2": 10}
    assert await gateway.answered(10, "careful") == {"ranker@2": 10}


async def test_a_generation_is_drawn_like_any_other_request(serve: Serve) -> None:
    gateway = await serve()
    assert (await gateway.move("canary", "writer", version="b", share=0.5)).status_code == 200
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    models = {
        (await gateway.client.post("/v1/chat/completions", json=body)).json()["model"]
        for _ in range(30)
    }
    assert models == {"writer@a", "writer@b"}
    named = await gateway.client.post(
        "/v1/chat/completions", json={**body, "model": "writer@canary"}
    )
    assert named.json()["model"] == "writer@b"
    assert "writer@canary is writer@b" in named.headers["x-turnout-reason"]


async def test_a_limit_of_the_caller_keeps_a_dear_canary_away_and_is_not_its_fault(
    serve: Serve,
) -> None:
    text = CATALOG.replace("      2: {}", "      2: {cost: {usd_per_request: 1.0}}")
    gateway = await serve(text.replace("share: 0.4", "share: 0.5"))
    for _ in range(30):
        reply = await gateway.ask(**{"X-Max-Cost-Usd": "0.01"})
        assert reply.headers["x-turnout-model"] == "ranker@1"
    trial = gateway.plane.rollouts.state("ranker")["trial"]
    assert trial["requests"]["canary"] == 0


async def test_a_log_with_a_trial_in_it_is_decided_again_as_the_policy_did(
    serve: Serve, tmp_path: Path
) -> None:
    log = tmp_path / "decisions.jsonl"
    gateway = await serve(log=log)
    await gateway.answered(40)
    gateway.plane.log.close()
    lines = log.read_text().splitlines()
    assert {json.loads(line)["model"] for line in lines} == {"ranker@1", "ranker@2"}
    again = replay(read_rows(lines, "log"), Change())
    assert {one.model for one in again} == {"ranker@1"}
    assert {one.row.policy_model for one in again} == {"ranker@1"}


async def test_a_model_without_versions_takes_no_part(serve: Serve) -> None:
    gateway = await serve()
    record = await gateway.decision(await gateway.ask("other"))
    assert (record["version"], record["propensity"]) == (None, 1.0)
    assert (await gateway.move("promote", "other")).status_code == 400
    assert (await gateway.move("promote", "nobody")).status_code == 404
