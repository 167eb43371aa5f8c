"""Fill a catalog's open quality priors with the quality measured at build time."""

from __future__ import annotations

from services.artifacts.store import read_manifest, resolve
from turnout.catalog import Catalog, Model
from turnout.errors import ArtifactInvalid

_LOWEST, _HIGHEST = 0.001, 0.999


def with_measured_quality(catalog: Catalog) -> Catalog:
    """Return the catalog with each model's held-out quality as its prior, unless it gives one.

    Recipes that evaluate their models leave ``quality`` in ``artifact.json``. A model that is not
    built yet, or was not evaluated, keeps the catalog's default.
    """
    judged = {name: _judged(model) for name, model in catalog.models.items()}
    if all(model is None for model in judged.values()):
        return catalog
    models = {name: judged[name] or model for name, model in catalog.models.items()}
    return catalog.model_copy(update={"models": models})


def _judged(model: Model) -> Model | None:
    if model.artifact is None or "prior" in model.quality.model_fields_set:
        return None
    try:
        measured = read_manifest(resolve(model.artifact)).get("measured", {}).get("quality")
    except ArtifactInvalid:
        return None
    if not isinstance(measured, int | float):
        return None
    prior = min(max(float(measured), _LOWEST), _HIGHEST)
    return model.model_copy(update={"quality": model.quality.model_copy(update={"prior": prior})})
