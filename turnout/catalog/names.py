"""Whether a catalog is consistent: names resolve, queues can be shared, models can fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.catalog.plan import plan
from turnout.types import DIMENSIONS

if TYPE_CHECKING:
    from turnout.catalog.schema import Catalog

RESERVED = frozenset({"auto"})


def dangling(catalog: Catalog) -> list[str]:
    """One line for each name that means nothing or two things: ``key: what is wrong``."""
    problems = [
        f"models.{name}: a route has the same name"
        for name in (*catalog.models, *catalog.versioned)
        if name in catalog.routes
    ]
    problems += [
        f"{kind}.{name}: this name is reserved"
        for kind, names in (
            ("models", (*catalog.models, *catalog.versioned)),
            ("routes", tuple(catalog.routes)),
        )
        for name in names
        if name in RESERVED
    ]
    for name, route in catalog.routes.items():
        for candidate in route.candidates:
            model = catalog.models.get(candidate)
            if model is None:
                problems.append(f"routes.{name}.candidates: no model is named {candidate!r}")
            elif model.task != route.task:
                problems.append(
                    f"routes.{name}.candidates: model {candidate!r} does {model.task.value!r}, "
                    f"the route does {route.task.value!r}"
                )
        problems += _differing(catalog, name)
        if route.latency_class not in catalog.classes:
            problems.append(
                f"routes.{name}.latency_class: no class is named {route.latency_class!r}"
            )
        if isinstance(route.target_quality, dict):
            problems += [
                f"routes.{name}.target_quality: no class is named {key!r}"
                for key in route.target_quality
                if key not in catalog.classes
            ]
        if route.explore is not None:
            problems += [
                f"routes.{name}.explore.classes: no class is named {key!r}"
                for key in route.explore.classes or ()
                if key not in catalog.classes
            ]
        if route.cascade is not None:
            problems += [
                f"routes.{name}.cascade.classes: no class is named {key!r}"
                for key in route.cascade.classes or ()
                if key not in catalog.classes
            ]
        if route.max_strong_share is not None and len(route.candidates) < 2:
            problems.append(f"routes.{name}.max_strong_share: needs at least two candidates")
    problems += _too_small_to_share(catalog)
    # Only a catalog whose other names resolve says what a pipeline's tensors are.
    return problems or _of_pipelines(catalog)


def _of_pipelines(catalog: Catalog) -> list[str]:
    taken = {*catalog.names, *RESERVED}
    problems = [f"pipelines.{n}: this name is taken" for n in catalog.pipelines if n in taken]
    for name, pipeline in catalog.pipelines.items():
        problems += [f"pipelines.{name}.{what}" for what in plan(catalog, pipeline).problems]
    return problems


def _differing(catalog: Catalog, name: str) -> list[str]:
    """Candidates stand in for each other, so their public tensors must be the same."""
    models = [catalog.models.get(candidate) for candidate in catalog.routes[name].candidates]
    sizes = [
        {**DIMENSIONS.get(model.task, {}), **model.dimensions}
        for model in models
        if model is not None and model.task == catalog.routes[name].task
    ]
    if all(one == sizes[0] for one in sizes):
        return []
    shown = ", ".join(str(one) for one in sizes)
    return [f"routes.{name}.candidates: they differ in dimensions: {shown}"]


def _too_small_to_share(catalog: Catalog) -> list[str]:
    """Queues that cannot be divided among the gateway's workers."""
    workers = catalog.gateway.workers
    return [
        f"models.{name}.batching.max_queue: {model.batching.max_queue} cannot be divided among "
        f"{workers} workers, give at least {workers}"
        for name, model in catalog.models.items()
        if model.placement == "inline" and model.batching.max_queue < workers
    ]


def oversized(catalog: Catalog) -> list[str]:
    """One line for each model that its device's memory budget can never hold."""
    problems: list[str] = []
    for device, budgets in catalog.gateway.budgets.items():
        budget = budgets // catalog.gateway.workers  # each worker has every inline model
        here = {
            name: model.memory
            for name, model in catalog.models.items()
            if model.placement == "inline" and model.device == device and model.knows_memory
        }
        pinned = {name: size for name, size in here.items() if catalog.models[name].pinned}
        fixed = sum(pinned.values())
        if fixed > budget:
            problems.append(
                f"gateway.memory_budget: {_mib(budget)} of {device} cannot hold the pinned models "
                f"{', '.join(pinned)} ({_mib(fixed)})"
            )
        problems += [
            f"models.{name}.memory: {_mib(size)} can never fit into the memory budget of {device}, "
            f"{_mib(budget)} with {_mib(fixed)} pinned"
            for name, size in here.items()
            if name not in pinned and size + fixed > budget
        ]
    return problems


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:.0f} MiB"
