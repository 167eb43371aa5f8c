"""Rows of a batch over a real plane: their size, and names whose meaning a reload changes."""

from __future__ import annotations

from typing import Any

import pytest

from routing.decision.request_view import RequestAnalyzer
from services.batch_api.targets import PlaneEndpoints
from tests.services.conftest import CATALOG, Rig
from turnout.catalog.reading import parse
from turnout.errors import PayloadTooLarge

EMBEDDINGS = "/v1/embeddings"
INFER = "/v2/models/fraud/infer"
SWAPPED = CATALOG.replace("\n  fraud:\n", "\n  scores:\n").replace("\n  embed: {", "\n  fraud: {")
"""The name ``fraud`` is the embedding route's."""


def texts(*values: str) -> dict[str, Any]:
    rows = {"name": "text", "datatype": "BYTES", "shape": [len(values)], "data": list(values)}
    return {"inputs": [rows]}


async def test_a_row_is_bound_by_its_body_and_not_by_how_its_line_is_written(rig: Rig) -> None:
    endpoints, max_body = PlaneEndpoints(rig.plane), rig.plane.catalog.gateway.max_body
    answered = await endpoints.run(EMBEDDINGS, {"input": "a", "model": "auto"}, 2 * max_body)
    assert answered.status == 200
    large = {"input": "a" * max_body, "model": "auto"}
    with pytest.raises(PayloadTooLarge, match="the row's body"):
        await endpoints.run(EMBEDDINGS, large, 2 * max_body)


async def test_a_name_that_a_reload_gives_another_task_is_read_anew(rig: Rig) -> None:
    endpoints = PlaneEndpoints(rig.plane)
    features = {"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [0.5] * 15}
    before = await endpoints.run(INFER, {"inputs": [features]}, 0)
    assert before.body["outputs"][0]["name"] == "probability"
    swapped = parse(SWAPPED, "test")
    rig.plane.fleet.adopt(swapped)
    rig.plane.adopt(swapped, RequestAnalyzer(swapped))
    after = await endpoints.run(INFER, texts("a"), 0)
    assert after.body["outputs"][0]["name"] == "embedding"
