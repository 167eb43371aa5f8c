"""Configuration and statistics as Triton's clients read them."""

from __future__ import annotations

from typing import Any

from tests.services.conftest import Rig

ROW = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}]}


async def stats(rig: Rig, path: str) -> dict[str, dict[str, Any]]:
    found = (await rig.client.get(path)).json()["model_stats"]
    return {each["name"]: each for each in found}


async def test_the_configuration_of_a_model_and_of_a_route(rig: Rig) -> None:
    model = (await rig.client.get("/v2/models/fraud-small/config")).json()
    assert model["platform"] == "turnout_fake"
    assert model["max_batch_size"] == 64
    assert model["input"] == [{"name": "features", "data_type": "TYPE_FP32", "dims": [15]}]
    route = (await rig.client.get("/v2/models/image/versions/1/config")).json()
    assert route["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}]
    assert route["parameters"]["candidates"]["string_value"] == "image-small, image-large"


async def test_statistics_count_what_was_answered_and_what_failed(rig: Rig) -> None:
    for _ in range(3):
        assert (await rig.client.post("/v2/models/fraud/infer", json=ROW)).status_code == 200
    await rig.client.post("/v2/models/fraud-large/infer", json=ROW)
    found = await stats(rig, "/v2/models/stats")
    assert found["fraud-small"]["inference_count"] == 3
    assert found["fraud-large"]["inference_count"] == 1
    assert found["image-small"]["inference_count"] == 0
    told = found["fraud-small"]["inference_stats"]
    assert told["success"] == {"count": 3, "ns": 9_000_000}
    assert told["queue"]["ns"] == 3_000_000
    assert told["compute_infer"]["ns"] == 6_000_000
    route = await stats(rig, "/v2/models/fraud/stats")
    assert route["fraud"]["inference_stats"]["success"]["count"] == 3


async def test_unknown_names_are_404(rig: Rig) -> None:
    for path in ("/v2/models/nobody/config", "/v2/models/nobody/stats"):
        reply = await rig.client.get(path)
        assert reply.status_code == 404
        assert "nobody" in reply.json()["error"]
