"""Dispatch of requests by the route table.

Both readers of HTTP, uvicorn's (``app``) and the fast path's (``fast_path``), use one dispatcher
for the route, for admission and for the answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from services.http.messages import ClientGone, HttpRequest, Reply
from services.server.admission import Admission, admission_terms
from services.server.routes import Route, RouteTable, route_table
from turnout.errors import Overloaded

if TYPE_CHECKING:
    from services.batch_api.service import BatchService
    from services.dataplane.data_plane import DataPlane
    from services.server.access_log import AccessLog

_CLOSE = (b"connection", b"close")


class Dispatcher:
    """Answers the requests of one plane.

    Args:
        plane: the data plane; its catalog may change, and the table with it.
        batches: the batch API, where it is served.
        access_log: the writer of an answer adds it here; None keeps no log.

    Attributes:
        routes: the route table of the present catalog.
        admission: bounds the short requests under way.
        max_body: the largest body in bytes.
    """

    routes: RouteTable
    max_body: int

    def __init__(
        self, plane: DataPlane, batches: BatchService | None, access_log: AccessLog | None
    ) -> None:
        self._plane = plane
        self._batches = batches
        self.access_log = access_log
        self._started_at = int(datetime.now(UTC).timestamp())
        refused = partial(plane.turned_away, Overloaded.code)
        self.admission = Admission(*admission_terms(plane.catalog), plane.clock, refused)
        plane.on_adopt.append(self._adopt)
        self._adopt()

    def admits(self, route: Route, named_class: bytes | None) -> bool:
        """Return whether a short request is admitted; count a refusal.

        Args:
            route: the request's route.
            named_class: its ``x-latency-class`` header.
        """
        admission = self.admission
        if not admission.crowded:
            return True
        latency_class = named_class.decode("latin-1") if named_class else route.short or ""
        if admission.admits(latency_class):
            return True
        admission.refuse()
        return False

    async def answer(self, route: Route, http: HttpRequest) -> Reply:
        """Run a route's handler; return its errors in the protocol's shape.

        Raises:
            ClientGone: the client left while its body was read.
        """
        try:
            reply = await route.handler(http)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the adapter turns every error into a reply
            reply = route.on_error(error)
            if route.streams:
                reply.headers.append(_CLOSE)
        if self._plane.draining:
            reply.headers.append(_CLOSE)
        return reply

    def _adopt(self) -> None:
        """Rebuild the routes and limits from the plane's present catalog."""
        catalog = self._plane.catalog
        self.routes = route_table(self._plane, self._batches, self._started_at)
        self.max_body = catalog.gateway.max_body
        self.admission.retune(*admission_terms(catalog))
