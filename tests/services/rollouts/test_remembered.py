"""Which paths the front door keeps: those of versions that exist, whatever is asked for."""

from __future__ import annotations

from services.server.app import GatewayApp
from tests.services.conftest import paths_of
from tests.services.rollouts.conftest import Serve


async def test_made_up_versions_are_not_kept(serve: Serve) -> None:
    gateway = await serve()
    door = gateway.client._transport.app  # type: ignore[attr-defined]
    assert isinstance(door, GatewayApp)
    await gateway.client.get("/v2/models/ranker/versions/1/ready")
    await gateway.client.get("/v2/models/ranker@1/ready")
    known = paths_of(door)
    assert "/v2/models/ranker/versions/1/infer" in known
    for number in range(20):
        for name in ("ranker", "ranker@1", "other", "rank"):
            await gateway.client.get(f"/v2/models/{name}/versions/x{number}/ready")
    assert paths_of(door) == known


async def test_a_name_with_an_empty_version_is_nobodys(serve: Serve) -> None:
    gateway = await serve()
    for path in ("/v2/models/ranker@/ready", "/v2/models/ranker@2/versions/9", "/v2/models/rank@"):
        assert (await gateway.client.get(path)).status_code == 404


async def test_an_operator_who_names_a_route_is_told_its_models(serve: Serve) -> None:
    gateway = await serve()
    for verb, body in (("promote", {"version": "2"}), ("unload", {}), ("pin", {})):
        reply = await gateway.move(verb, "rank", **body)
        assert reply.status_code == 400
        assert "'rank' is a route; name one of its models" in reply.json()["error"]


async def test_an_alias_in_a_name_has_the_route_of_its_version(serve: Serve) -> None:
    gateway = await serve()
    app = gateway.client._transport.app  # type: ignore[attr-defined]
    await gateway.client.get("/readyz")
    known = paths_of(app)
    for alias in ("production", "canary"):
        assert f"/v2/models/ranker@{alias}/infer" in known
        assert f"/v2/models/ranker/versions/{alias}/infer" in known
