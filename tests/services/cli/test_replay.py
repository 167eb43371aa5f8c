from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from routing.replay.log import read_rows
from routing.replay.replay import Change, replay
from services.cli.main import main as entry
from services.dataplane.decision_log import DecisionLog
from tests.services.conftest import CATALOG, Rig
from turnout.catalog import Catalog
from turnout.catalog.reading import parse
from turnout.errors import DataError

EXPLORING = CATALOG.replace(
    "target_quality: 0.3\n", "target_quality: 0.3\n    explore: {share: 0.5}\n"
)
ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}
CLASSES = ("realtime", "interactive", "bulk")


def main(arguments: list[str]) -> int:
    """Run the command line; its exit code."""
    try:
        entry(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.fixture
def catalog() -> Catalog:
    return parse(EXPLORING, "test")


async def traffic(rig: Rig, n: int = 60) -> None:
    """Chat and fraud of every class, with some limits, and feedback: the large model is right."""
    for index in range(n):
        routing: dict[str, Any] = {"latency_class": CLASSES[index % 3], "deadline_ms": 3000}
        if index % 5 == 0:
            routing["min_quality"] = 0.35
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": f"question {index}"}],
            "routing": routing,
        }
        reply = await rig.client.post("/v1/chat/completions", json=body)
        headers = {"X-Latency-Class": CLASSES[index % 3]}
        await rig.client.post("/v2/models/fraud/infer", json=ROW, headers=headers)
        score = 1.0 if reply.headers["x-turnout-model"] == "chat-large" else 0.25
        name = reply.headers["x-turnout-decision"]
        await rig.client.post("/v1/feedback", json={"decision_id": name, "score": score})


async def logged(make_rig: Callable[..., Rig], file: Path, *, prompts: bool = False) -> None:
    rig = make_rig(log=DecisionLog(file, prompts=prompts))
    await rig.plane.fleet.settled()
    await traffic(rig)
    rig.plane.log.close()


async def test_a_log_decides_the_same_again_but_for_chance(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    file = tmp_path / "log.jsonl"
    await logged(make_rig, file)
    rows = read_rows(file.read_text().splitlines(), "log")
    assert len(rows) == 120
    for again in replay(rows, Change()):
        policy_model = again.row.policy_model or again.row.model
        assert again.model == policy_model
    explored = [row for row in rows if row.rule == "explore"]
    assert explored
    assert {row.propensity[row.model] for row in explored} <= {0.25, 0.75}
    assert all(sum(row.propensity.values()) == pytest.approx(1.0) for row in rows)


async def test_replay_estimates_what_another_policy_would_have_had(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.jsonl"
    await logged(make_rig, file)
    main(["replay", str(file), "--route", "chat", "--policy", "best", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["replayed"] == {"chat-large": 60}
    quality = found["rewards"]["quality"]
    assert quality["by"]["snips"]["value"] == pytest.approx(1.0)
    assert quality["logged"]["value"] < 0.9
    assert quality["unsupported"] == 0.0
    main(["replay", str(file), "--route", "fraud", "--policy", "best"])
    assert "never" in capsys.readouterr().out


async def test_replay_under_another_catalog_and_under_knobs(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "log.jsonl", tmp_path / "other.yaml"
    await logged(make_rig, file)
    other.write_text(CATALOG.replace("target_quality: 0.3\n", "target_quality: 1.0\n"))
    main(["replay", str(file), "--route", "chat", "--catalog", str(other), "--json"])
    assert json.loads(capsys.readouterr().out)["replayed"] == {"chat-large": 60}
    held = ["--policy", "best", "--max-strong-share", "0"]
    main(["replay", str(file), "--route", "chat", *held, "--json"])
    by = json.loads(capsys.readouterr().out)["replayed"]
    assert by["chat-large"] <= 40 < by["chat-large"] + by["chat-small"]
    other.write_text(CATALOG.replace("  chat:\n", "  talk:\n"))
    assert main(["replay", str(file), "--route", "chat", "--catalog", str(other)]) == 2
    assert "no route 'chat'" in capsys.readouterr().err


async def test_a_cascades_second_step_is_decided_again(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.jsonl"
    rig = make_rig(log=DecisionLog(file))
    await rig.plane.fleet.settled()
    for index in range(30):
        rig.backends["chat-small"].logprob = -2.0 if index % 3 == 0 else -0.1
        body = {"model": "careful", "messages": [{"role": "user", "content": "hi"}]}
        reply = await rig.client.post("/v1/chat/completions", json=body)
        name = reply.headers["x-turnout-decision"]
        score = 1.0 if reply.headers["x-turnout-model"] == "chat-large" else 0.25
        await rig.client.post("/v1/feedback", json={"decision_id": name, "score": score})
    rig.plane.log.close()

    def again(*options: str) -> dict[str, Any]:
        main(["replay", str(file), *options, "--json"])
        return json.loads(capsys.readouterr().out)

    same = again()
    assert same["same"] == 30
    assert same["escalated"] == {"logged": pytest.approx(1 / 3), "replayed": pytest.approx(1 / 3),
                                 "unknown": 0}  # fmt: skip
    assert same["rewards"]["quality"]["by"]["snips"]["value"] == pytest.approx(0.5)
    never = again("--threshold", "0")
    assert (never["same"], never["escalated"]["replayed"]) == (20, 0.0)
    assert never["rewards"]["quality"]["unsupported"] == pytest.approx(1 / 3)
    assert again("--threshold", "1")["escalated"]["replayed"] == 1.0
    assert again("--max-strong-share", "0")["escalated"]["replayed"] < 0.3
    main(["replay", str(file), "--threshold", "1"])
    assert "33.3% of rows were answered twice, 100.0% would be" in capsys.readouterr().out


async def test_what_the_log_does_not_say_of_a_cascade_is_left_out(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.jsonl"
    await logged(make_rig, file)
    main(["replay", str(file), "--route", "chat", "--policy", "cascade", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["escalated"]["unknown"] == 60
    assert found["rewards"] == {}


async def test_scored_answers_become_an_outcome_table_where_prompts_are_logged(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "outcomes.parquet"
    await logged(make_rig, log, prompts=True)
    main(["decisions", "export", str(log), "--out", str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["written"] == 60
    table = pd.read_parquet(out)
    assert list(table.columns) == [
        "query_id", "prompt", "group", "model", "score", "cost_usd", "output_tokens", "latency_s",
    ]  # fmt: skip
    assert set(table["prompt"]) == {f"question {index}" for index in range(60)}
    assert set(table.loc[table["model"] == "chat-large", "score"]) == {1.0}
    assert (table["output_tokens"] == 3).all()


async def test_no_prompt_is_logged_unless_asked_for(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    await logged(make_rig, log)
    assert "question" not in log.read_text()
    assert main(["decisions", "export", str(log), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "TURNOUT_LOG_PROMPTS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "log:2: not JSON"),
        ("[]", "log:2: no decision"),
        ('{"decision_id": "a"}', "log:2: 'model' is missing"),
        ('{"decision_id": "a", "feedback": {"score": "x"}}', "log:2: no decision"),
    ],
)
def test_a_bad_line_is_named(line: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        read_rows(["", line], "log")
    with pytest.raises(DataError, match="holds no decision"):
        read_rows([""], "log")
