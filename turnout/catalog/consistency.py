"""Checks across a catalog's entries: names resolve, queues can be shared, models can fit."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.catalog.plan import plan
from turnout.catalog.route import Route
from turnout.catalog.schema import CatalogEntries
from turnout.types import DIMENSIONS

RESERVED = frozenset({"auto"})


def dangling(catalog: CatalogEntries) -> list[str]:
    """Return a line for each name without meaning or with two: ``key: what is wrong``."""
    problems = _taken_or_reserved(catalog)
    for name in catalog.routes:
        problems += _problems_of_route(catalog, name)
    problems += _too_small_to_share(catalog)
    # The tensors of a pipeline are known only where all other names resolve.
    return problems or _problems_of_pipelines(catalog)


def _taken_or_reserved(catalog: CatalogEntries) -> list[str]:
    models = (*catalog.models, *catalog.versioned)
    problems = [
        f"models.{name}: a route has the same name" for name in models if name in catalog.routes
    ]
    for kind, names in (("models", models), ("routes", tuple(catalog.routes))):
        problems += [f"{kind}.{name}: this name is reserved" for name in names if name in RESERVED]
    return problems


def _problems_of_route(catalog: CatalogEntries, name: str) -> list[str]:
    route = catalog.routes[name]
    problems: list[str] = []
    for candidate in route.candidates:
        model = catalog.models.get(candidate)
        if model is None:
            problems.append(f"routes.{name}.candidates: no model is named {candidate!r}")
        elif model.task != route.task:
            problems.append(
                f"routes.{name}.candidates: model {candidate!r} does {model.task.value!r}, "
                f"the route does {route.task.value!r}"
            )
    problems += _differing_dimensions(catalog, name)
    problems += [
        f"routes.{name}.{key}: no class is named {latency_class!r}"
        for key, latency_class in _class_names(route)
        if latency_class not in catalog.classes
    ]
    if route.max_strong_share is not None and len(route.candidates) < 2:
        problems.append(f"routes.{name}.max_strong_share: needs at least two candidates")
    return problems


def _class_names(route: Route) -> Iterator[tuple[str, str]]:
    """Yield each latency class that a route names, after the key that names it."""
    yield "latency_class", route.latency_class
    if isinstance(route.target_quality, dict):
        for name in route.target_quality:
            yield "target_quality", name
    for key, part in (("explore", route.explore), ("cascade", route.cascade)):
        for name in (part.classes or ()) if part is not None else ():
            yield f"{key}.classes", name


def _problems_of_pipelines(catalog: CatalogEntries) -> list[str]:
    used = {*catalog.names, *RESERVED}
    problems = [f"pipelines.{n}: this name is taken" for n in catalog.pipelines if n in used]
    for name, pipeline in catalog.pipelines.items():
        problems += [f"pipelines.{name}.{problem}" for problem in plan(catalog, pipeline).problems]
    return problems


def _differing_dimensions(catalog: CatalogEntries, name: str) -> list[str]:
    """Return a line if the candidates' public tensors differ: they must replace each other."""
    models = [catalog.models.get(candidate) for candidate in catalog.routes[name].candidates]
    dimensions = [
        {**DIMENSIONS.get(model.task, {}), **model.dimensions}
        for model in models
        if model is not None and model.task == catalog.routes[name].task
    ]
    if all(sizes == dimensions[0] for sizes in dimensions):
        return []
    listed = ", ".join(map(str, dimensions))
    return [f"routes.{name}.candidates: they differ in dimensions: {listed}"]


def _too_small_to_share(catalog: CatalogEntries) -> list[str]:
    """Return a line for each queue that cannot be divided among the gateway's workers."""
    workers = catalog.gateway.workers
    return [
        f"models.{name}.batching.max_queue: {model.batching.max_queue} cannot be divided among "
        f"{workers} workers, give at least {workers}"
        for name, model in catalog.models.items()
        if model.placement == "inline" and model.batching.max_queue < workers
    ]


def oversized(catalog: CatalogEntries) -> list[str]:
    """Return a line for each model that its device's memory budget can never hold."""
    problems: list[str] = []
    for device, device_bytes in catalog.gateway.budgets.items():
        budget = device_bytes // catalog.gateway.workers  # each worker has every inline model
        sizes = {
            name: model.memory
            for name, model in catalog.models.items()
            if model.placement == "inline" and model.device == device and model.knows_memory
        }
        pinned = {name: size for name, size in sizes.items() if catalog.models[name].pinned}
        pinned_bytes = sum(pinned.values())
        if pinned_bytes > budget:
            problems.append(
                f"gateway.memory_budget: {_mib(budget)} of {device} cannot hold the pinned models "
                f"{', '.join(pinned)} ({_mib(pinned_bytes)})"
            )
        problems += [
            f"models.{name}.memory: {_mib(size)} can never fit into the memory budget of {device}, "
            f"{_mib(budget)} with {_mib(pinned_bytes)} pinned"
            for name, size in sizes.items()
            if name not in pinned and size + pinned_bytes > budget
        ]
    return problems


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:.0f} MiB"
