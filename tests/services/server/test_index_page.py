from __future__ import annotations

import re
from collections.abc import Callable

from tests.services.conftest import Rig, StandIn
from turnout.errors import LoadFailed


async def test_the_page_shows_what_is_served_and_asks_nobody_else(rig: Rig) -> None:
    reply = await rig.client.get("/")
    page = reply.text
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    for name in (*rig.plane.catalog.routes, *rig.plane.catalog.models):
        assert f"<code>{name}</code>" in page
    assert "a model's own name asks that model" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\W*(https?:)?//", page)
    links = re.findall(r'href="([^"]+)"', page)
    assert "/metrics" in links
    for link in links:
        known = await rig.client.get(link)
        assert known.status_code in (200, 418, 400), link


async def test_a_model_that_failed_says_why_without_breaking_the_page(
    make_rig: Callable[..., Rig],
) -> None:
    def prepare(backends: dict[str, StandIn]) -> None:
        backends["fraud-large"].load_error = LoadFailed("fraud-large", "<b>no such file</b>")

    rig = make_rig(prepare)
    await rig.plane.fleet.settled()
    page = (await rig.client.get("/")).text
    assert "&lt;b&gt;no such file&lt;/b&gt;" in page
    assert "<b>no such" not in page
