"""The share of the catalog's queues and memory that each of several gateway workers may take."""

from __future__ import annotations

from turnout.catalog.catalog import Catalog
from turnout.catalog.schema import Batching, Model


def share_of_worker(catalog: Catalog) -> Catalog:
    """Return the catalog as each of its ``gateway.workers`` serves it.

    Every worker has every inline model, so queues and the memory budget are divided. Models in
    processes of their own, or elsewhere, serve all workers together and keep their limits.
    """
    workers = catalog.gateway.workers
    if workers == 1:
        return catalog
    budget = catalog.gateway.memory_budget
    gateway = catalog.gateway.model_copy(update={"memory_budget": _divided(budget, workers)})
    models = {name: _share(model, workers) for name, model in catalog.models.items()}
    return catalog.model_copy(update={"gateway": gateway, "models": models})


def _divided(budget: int | dict[str, int] | None, workers: int) -> int | dict[str, int] | None:
    if isinstance(budget, dict):
        return {device: size // workers for device, size in budget.items()}
    return None if budget is None else budget // workers


def _share(model: Model, workers: int) -> Model:
    if model.placement != "inline":
        return model
    batching: Batching = model.batching.model_copy(
        update={"max_queue": model.batching.max_queue // workers}
    )
    return model.model_copy(update={"batching": batching})
