from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from services.dataplane.decision_log import DecisionLog
from services.server.access_log import AccessLog
from services.server.app import GatewayApp
from tests.services.conftest import Rig, behind

ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


async def test_every_decision_is_a_line_with_its_outcome_and_feedback(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    file = tmp_path / "log" / "decisions.jsonl"
    rig = make_rig(log=DecisionLog(file))
    await rig.plane.fleet.settled()
    names = []
    for _ in range(50):
        reply = await rig.client.post("/v2/models/fraud/infer", json=ROW)
        names.append(reply.headers["x-turnout-decision"])
    await rig.client.post("/v1/feedback", json={"decision_id": names[0], "score": 0.5})
    rig.plane.log.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["decision_id"] for line in lines] == [*names, names[0]]
    assert all(line["outcome"]["status"] == "ok" for line in lines[:-1])
    assert lines[-1]["feedback"]["score"] == 0.5


async def test_only_the_latest_decisions_are_remembered(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(log=DecisionLog(keep=3))
    await rig.plane.fleet.settled()
    names = []
    for _ in range(5):
        reply = await rig.client.post("/v2/models/fraud/infer", json=ROW)
        names.append(reply.headers["x-turnout-decision"])
    known = [(await rig.client.get(f"/v1/decisions/{name}")).status_code for name in names]
    assert known == [404, 404, 200, 200, 200]


async def test_the_access_log_has_a_line_for_every_answer(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = AccessLog(str(file))
    door = GatewayApp(lambda: rig.plane, behind, log)
    transport = httpx.ASGITransport(app=door)
    async with httpx.AsyncClient(transport=transport, base_url="http://turnout") as client:
        await client.post("/v2/models/fraud/infer", json=ROW)
        await client.get("/v2/models/no%0Ape")
    log.close()
    good, bad = file.read_text().splitlines()
    assert " POST /v2/models/fraud/infer 200 " in good
    assert " fraud-small req-" in good
    assert " 404 " in bad
    assert "\\n" in bad
