"""Pages outside the protocols: the metrics and the index."""

from __future__ import annotations

from services.dataplane.data_plane import DataPlane
from services.http.messages import HttpRequest, Reply

_NO_FOREIGN_CONTENT = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"cache-control", b"no-store"),
)


class Pages:
    """Pages over one plane; their modules are imported with the first request."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def metrics(self, http: HttpRequest) -> Reply:
        """``GET /metrics``: Turnout's and BentoML's metrics, with current gauges."""
        from services.metrics.exposition import exposition

        self._plane.measure()
        if self._plane.peers is not None:
            await self._plane.peers.ask("measure")
        content_type, body = exposition()
        return Reply(200, [(b"content-type", content_type.encode())], body)

    async def index(self, http: HttpRequest) -> Reply:
        """``GET /``: the served models and routes, for a person."""
        from services.server.index_page import index_page

        content_type = (b"content-type", b"text/html; charset=utf-8")
        return Reply(200, [content_type, *_NO_FOREIGN_CONTENT], index_page(self._plane))
