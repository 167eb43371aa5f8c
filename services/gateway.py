"""The gateway: one Bento service in front of a whole catalog.

``bentoml serve`` starts it. Models of placement ``process`` are its BentoML dependencies, each in
a process of its own; the others run inside it or elsewhere.
"""

from __future__ import annotations

from typing import Any, cast

import bentoml

from services.apis import API_OF, PipelineApi, RouteApi
from services.base import Endpoint, TurnoutService, listening
from services.bento_models import bento_models
from services.models import make_service
from services.start_order import GATEWAY, after_the_gateway
from turnout.catalog import Catalog, load
from turnout.catalog.shares import share_of_worker
from turnout.settings import from_environment

_LONG_S = 24 * 3600


def make_gateway(catalog: Catalog) -> TurnoutService:
    """The gateway service of a catalog."""
    body: dict[str, Any] = {
        "catalog": share_of_worker(catalog),
        "serves_bulk": True,
        "__module__": __name__,
        "__doc__": __doc__,
    }
    body |= bento_models([m for m in catalog.models.values() if m.placement == "inline"])
    for index, (name, model) in enumerate(catalog.models.items()):
        if model.placement == "process":
            later = after_the_gateway()
            body[f"process_{index}"] = bentoml.depends(make_service(catalog, name, later))
    tasks = dict.fromkeys(model.task for model in catalog.models.values())
    apis = [RouteApi, *([PipelineApi] if catalog.pipelines else ()), *(API_OF[t] for t in tasks)]
    inner = type("Gateway", (Endpoint, *apis), body)
    decorate = bentoml.service(
        name=GATEWAY,
        service_class=TurnoutService,
        workers=catalog.gateway.workers,
        http=listening(),
        traffic={"timeout": _LONG_S},
    )
    return cast("TurnoutService", decorate(inner))


Gateway = make_gateway(load(from_environment().catalog))
