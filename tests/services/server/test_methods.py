"""Our own paths with methods they don't take: 405 with Allow; BentoML's own are its business."""

from __future__ import annotations

import pytest

from routing.decision.request_view import RequestAnalyzer
from tests.services.conftest import Rig


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("PUT", "/v2/models/fraud/infer", "POST"),
        ("POST", "/v2/models/fraud", "GET"),
        ("POST", "/v2/models/fraud/stats", "GET"),
        ("POST", "/metrics", "GET"),
        ("POST", "/", "GET"),
        ("POST", "/v1/decisions/req-1", "GET"),
        ("GET", "/v2/repository/models/fraud-small/load", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    rig: Rig, method: str, path: str, allowed: str
) -> None:
    reply = await rig.client.request(method, path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == allowed
    assert f"{path} does not take {method}" in reply.text


async def test_what_is_not_ours_is_bentomls(rig: Rig) -> None:
    for method, path in (("POST", "/classify"), ("OPTIONS", "/v1/models"), ("GET", "/healthz")):
        assert (await rig.client.request(method, path)).status_code == 418


@pytest.mark.parametrize("path", ["/readyz", "/livez", "/metrics", "/v1/models"])
async def test_a_head_is_answered_as_its_get(rig: Rig, path: str) -> None:
    asked = await rig.client.get(path)
    reply = await rig.client.head(path)
    assert reply.status_code == asked.status_code == 200
    assert reply.headers["content-type"] == asked.headers["content-type"]


async def test_admission_stays_when_the_catalog_changes(rig: Rig) -> None:
    """Connections that are open know it, so a second one would let in as many again."""
    await rig.client.get("/readyz")
    admission = rig.door.dispatcher.admission  # type: ignore[union-attr]
    rig.plane.adopt(rig.plane.catalog, RequestAnalyzer(rig.plane.catalog))
    await rig.client.get("/readyz")
    assert rig.door.dispatcher is not None
    assert rig.door.dispatcher.admission is admission
