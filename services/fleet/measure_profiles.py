"""Measure each model's batching curve on this host and keep it as the model's profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from runners.profiling.curve import Curve
from runners.profiling.curve import profile as measure
from services.artifacts.store import resolve
from services.fleet.profiles import Profiles, new_profile
from turnout.catalog import Catalog
from turnout.errors import UnknownModel


def measure_profiles(
    catalog: Catalog, report: Callable[[str], None], only: str | None = None
) -> Mapping[str, Curve]:
    """Measure the models of a catalog that have files here; the next start begins with the result.

    Args:
        catalog: the catalog.
        report: called with the progress, by model.
        only: the name of the one model to measure; all if None.

    Returns:
        The curve of each measured model.

    Raises:
        UnknownModel: the catalog has no model ``only``.
        ArtifactInvalid, LoadFailed: a model is not built, or cannot run.
    """
    if only is not None and only not in catalog.models:
        raise UnknownModel(only, tuple(catalog.models))
    profiles = Profiles.read()
    curves: dict[str, Curve] = {}
    for name, model in catalog.models.items():
        if model.artifact is None or only not in (None, name):
            continue
        report(f"{name}: measuring")
        plain = model.model_dump(mode="json", exclude_none=True)
        curve = curves[name] = measure(name, plain, resolve(model.artifact))
        profile = new_profile(
            model, curve.base_ms, curve.per_unit_ms, curve.per_token_ms, "measured", asdict(curve)
        )
        if profile is not None:
            profiles.keep(name, profile)
    return curves
