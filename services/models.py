"""Each model of the catalog as a Bento service of its own, made by one factory.

``bentoml serve services.models:fraud-small`` serves one model alone, with the same protocols as
the gateway; the gateway runs models of placement ``process`` through the same services.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, cast

import bentoml

from services.process.preflight import catalog_to_serve
from services.process.startup import service_name, starts_workers
from services.service import ServiceInstance, TurnoutService, listening
from turnout.catalog import Catalog, Model, Route
from turnout.types import Task

_LONG_S = 24 * 3600


def __getattr__(name: str) -> Any:
    """``services.models:<name>``, for every model of the catalog."""
    if name.startswith("_"):
        raise AttributeError(name)
    services = _services()
    if name not in services:
        raise AttributeError(f"no model is named {name!r}; known here: {', '.join(services)}")
    return services[name]


def __dir__() -> list[str]:
    """The catalog's models."""
    return list(_services())


def narrowed(catalog: Catalog, name: str) -> Catalog:
    """The catalog of one model alone, inline, with the routes it is a candidate of."""
    model = catalog.models[name]
    placement = "remote" if model.placement == "remote" else "inline"
    routes = {
        route_name: route.model_copy(
            update={"candidates": (name,), "policy": "cheapest", "cascade": None}
        )
        for route_name, route in catalog.routes.items()
        if route in catalog.routes_of(name)
    }
    if not routes:
        latency_class = next(iter(catalog.classes))
        routes[f"{name.replace('@', '-')}-route"] = Route(
            task=model.task, candidates=(name,), latency_class=latency_class
        )
    gateway = catalog.gateway
    if model.placement == "process":
        # The budget is for the gateway's inline models; this process has one model.
        gateway = gateway.model_copy(update={"memory_budget": None})
    return catalog.model_copy(
        update={"models": {name: model.model_copy(update={"placement": placement})},
                "routes": routes, "pipelines": {}, "gateway": gateway, "versioned": {}}
    )  # fmt: skip


def make_service(catalog: Catalog, name: str) -> TurnoutService:
    """The Bento service of one model of a catalog.

    Its adaptive settings (batch and queue limits, memory, concurrency) come from the catalog.

    Args:
        catalog: the catalog.
        name: of the model.
    """
    model = catalog.models[name]
    body: dict[str, Any] = {"catalog": narrowed(catalog, name), "__module__": __name__}
    apis, declared = apis_and_artifacts([model.task], [model])
    inner = type(service_name(name).replace("-", "_"), (ServiceInstance, *apis), body | declared)
    inner.__doc__ = f"{name}: {model.task.value} on {model.runner.engine}."
    decorate = bentoml.service(
        name=service_name(name),
        service_class=TurnoutService,
        workers=1,
        http=listening(),
        traffic={"timeout": _LONG_S},
        # A dependency's client is closed after 100 requests while others are in flight
        # unless these are out of reach.
        runner_connection={"max_requests": 10**9, "max_age": 1e9},
    )
    service = cast("TurnoutService", decorate(inner))
    service._import_str = f"{__name__}:{name}"
    return service


def apis_and_artifacts(
    tasks: Iterable[Task], models: Iterable[Model], more: Iterable[str] = ()
) -> tuple[list[type], dict[str, Any]]:
    """BentoML's APIs of tasks, and the attributes that declare the artifacts of models.

    Both are empty in the process of ``bentoml serve`` that only starts the workers.

    Args:
        tasks: each once.
        models: that the service runs itself.
        more: names in ``services.bento.apis`` of further APIs, which come first.
    """
    if starts_workers():
        return [], {}
    # Imported here: they take a tenth of a second, and each worker would wait for the supervisor.
    from services.bento import apis
    from services.bento.artifact_refs import bento_models

    mixins = [*(getattr(apis, name) for name in more), *(apis.API_OF[task] for task in tasks)]
    return mixins, bento_models(models)


@cache
def _services() -> dict[str, TurnoutService]:
    catalog = catalog_to_serve(decides=False)
    return {name: make_service(catalog, name) for name in catalog.models}
