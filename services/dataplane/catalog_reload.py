"""Reload of a changed catalog without a restart: new models are added, removed ones drain.

A catalog that cannot be read, or that needs a restart, is refused with its problems, and the old
one stays. Requests under way finish on the models they began with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from routing.decision.request_view import RequestAnalyzer
from services.artifacts.measured_quality import with_measured_quality
from services.dataplane.data_plane import DataPlane
from services.routers.prompt_routers import routers_for
from turnout.catalog import Catalog, load
from turnout.catalog.shares import share_of_worker
from turnout.errors import CatalogInvalid
from turnout.settings import from_environment


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of models that a reload added, changed and removed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def reload_catalog(plane: DataPlane, file: Path) -> Changes:
    """Serve the present content of a catalog file.

    Raises:
        CatalogInvalid: it is refused; each problem by line or name. Nothing has changed.
        ArtifactInvalid: it adds the first chat route that chooses, and the trained router cannot
            be read. Nothing has changed.
    """
    catalog = with_measured_quality(share_of_worker(load(file)))
    learned = plane.feature_routers
    refused = needs_restart(plane.catalog, catalog) + (learned.problems(catalog) if learned else [])
    problems = [f"{file}: {problem}" for problem in refused]
    if problems:
        raise CatalogInvalid(problems)
    changes = compare(plane.catalog, catalog)
    if plane.routers is None:
        plane.routers = routers_for(catalog, from_environment())
    else:
        plane.routers.adopt(catalog)
    plane.fleet.adopt(catalog)
    plane.adopt(catalog, RequestAnalyzer(catalog, plane.routers, learned))
    return changes


def compare(old: Catalog, new: Catalog) -> Changes:
    """Return the differences between the models of two catalogs."""
    return Changes(
        tuple(name for name in new.models if name not in old.models),
        tuple(n for n, model in new.models.items() if n in old.models and old.models[n] != model),
        tuple(name for name in old.models if name not in new.models),
    )


def needs_restart(old: Catalog, new: Catalog) -> list[str]:
    """Return a line for each change that a running gateway cannot take over."""
    problems = [
        f"models.{name}: has a process of its own, which only a restart can start or change"
        for name, model in new.models.items()
        if model.placement == "process" and old.models.get(name) != model
    ]
    if new.gateway.workers != old.gateway.workers:
        problems.append("gateway.workers: a restart is needed to change it")
    if bool(new.gateway.budgets) != bool(old.gateway.budgets):
        problems.append("gateway.memory_budget: a restart is needed to begin or end with one")
    return problems
