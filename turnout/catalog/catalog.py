"""The checked catalog: its entries with versions expanded, names resolved and sizes possible."""

from __future__ import annotations

from pydantic import model_validator

from turnout.catalog.consistency import dangling, oversized
from turnout.catalog.expansion import expand
from turnout.catalog.schema import CatalogEntries
from turnout.catalog.versions import Canary, Versioned, model_name


class Catalog(CatalogEntries):
    """A whole fleet: classes, models, routes, and the pipelines that compose routes.

    ``versioned`` holds what is left of models with versions once ``models`` has each of those:
    see ``turnout.catalog.versions``.
    """

    @model_validator(mode="before")
    @classmethod
    def _versions_are_models(cls, data: object) -> object:
        return expand(data)

    @model_validator(mode="after")
    def _names_resolve(self) -> Catalog:
        problems = dangling(self) + oversized(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self


def realiased(catalog: Catalog, name: str, production: str, canary: Canary | None) -> Catalog:
    """Return the catalog with other aliases of one model; routes follow its production.

    Raises:
        ValueError: the model has no such version, or production would be its own canary.
    """
    old = catalog.versioned[name]
    new = Versioned.model_validate(old.model_dump() | {"production": production, "canary": canary})
    old_model, new_model = model_name(name, old.production), model_name(name, new.production)
    routes = dict(catalog.routes)
    for route in (*old.routes, *old.steady):
        names = tuple(
            new_model if candidate == old_model else candidate
            for candidate in routes[route].candidates
        )
        routes[route] = routes[route].model_copy(update={"candidates": names})
    versioned = {**catalog.versioned, name: new}
    return catalog.model_copy(update={"routes": routes, "versioned": versioned})
