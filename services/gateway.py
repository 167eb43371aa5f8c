"""The gateway: one Bento service in front of a whole catalog.

``bentoml serve`` starts it. Models of placement ``process`` are its BentoML dependencies, each in
a process of its own; the others run inside it or elsewhere.
"""

from __future__ import annotations

from typing import Any, cast

import bentoml

from services.models import apis_and_artifacts, make_service
from services.process.preflight import catalog_to_serve
from services.process.startup import GATEWAY, prepare_workers, starts_workers
from services.service import ServiceInstance, TurnoutService, listening
from turnout.catalog import Catalog
from turnout.catalog.shares import share_of_worker

_LONG_S = 24 * 3600


def make_gateway(catalog: Catalog) -> TurnoutService:
    """The gateway service of a catalog."""
    body: dict[str, Any] = {
        "catalog": share_of_worker(catalog),
        "serves_bulk": True,
        "__module__": __name__,
        "__doc__": __doc__,
    }
    for index, (name, model) in enumerate(catalog.models.items()):
        if model.placement == "process":
            body[f"process_{index}"] = bentoml.depends(make_service(catalog, name))
    more = ("RouteApi", "PipelineApi") if catalog.pipelines else ("RouteApi",)
    models = catalog.models.values()
    tasks = dict.fromkeys(model.task for model in models)
    here = [model for model in models if model.placement == "inline"]
    apis, declared = apis_and_artifacts(tasks, here, more)
    inner = type("Gateway", (ServiceInstance, *apis), body | declared)
    decorate = bentoml.service(
        name=GATEWAY,
        service_class=TurnoutService,
        workers=catalog.gateway.workers,
        http=listening(),
        traffic={"timeout": _LONG_S},
    )
    return cast("TurnoutService", decorate(inner))


if starts_workers():
    prepare_workers()
Gateway = make_gateway(catalog_to_serve())
