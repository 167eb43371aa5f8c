"""The route table: which paths it has, and who is asked for them."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import Response

from services.server.app import GatewayApp
from tests.services.conftest import Rig


class NoDatabase:
    """A batch API whose database nobody may touch."""

    async def database(self) -> None:
        raise AssertionError("an id that cannot be one reached the database")


@pytest.mark.parametrize("path", ["/v1/files/a.b", "/v1/files/%00", "/v1/batches/caf%C3%A9/cancel"])
async def test_an_id_of_other_characters_is_nobodys(rig: Rig, path: str) -> None:
    app = GatewayApp(
        lambda: rig.plane,
        Response(status_code=418),
        bulk=lambda: NoDatabase(),  # type: ignore[arg-type,return-value]
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://turnout") as client:
        reply = await client.request("POST" if path.endswith("cancel") else "GET", path)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "unknown_path"
