"""Build the artefacts of a catalog that the model store lacks: by recipe, address or passes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runners.recipes import load_recipe
from services.artifacts.build import RecipeOf, Report, added_by_hand, ensure_built, version_of
from services.artifacts.store import Stored, check_gate, read_manifest
from turnout.catalog import split
from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from turnout.catalog import Artifact, Catalog


def build_missing(
    catalog: Catalog,
    report: Report,
    only: Collection[str] | None = None,
    recipe_of: RecipeOf = load_recipe,
) -> Mapping[str, Path]:
    """Build every artefact of a catalog that the store lacks.

    Args:
        catalog: the catalog.
        report: called with one line of progress at a time.
        only: the models or tags to build; all if None.
        recipe_of: returns the recipe of a name.

    Returns:
        The folder of each artefact, by tag.

    Raises:
        ArtifactInvalid: some could not be built (the others were), each with the remedy.
    """
    artifacts = {
        (model.artifact.tag, version_of(model.artifact)): (name, model.artifact)
        for name, model in catalog.models.items()
        if model.artifact is not None
        and (only is None or {name, split(name)[0], model.artifact.tag} & set(only))
    }
    if only and not artifacts:
        raise ArtifactInvalid(f"the catalog has no model or tag named {', '.join(sorted(only))}")
    folders: dict[str, Path] = {}
    problems: list[str] = []
    for place, (name, artifact) in enumerate(artifacts.values(), start=1):
        report_one = _counted(report, place, len(artifacts))
        try:
            if artifact.optimize is not None and added_by_hand(artifact) is None:
                folders[artifact.tag] = _optimized(catalog, name, report_one)
            else:
                folders[artifact.tag] = ensure_built(artifact, report_one, recipe_of)
            _report_verdict(artifact, folders[artifact.tag], report_one)
        except ArtifactInvalid as error:
            problems.append(f"{artifact.tag}: {error}")
            report_one(f"{artifact.tag}: failed: {error}")
    if problems:
        raise ArtifactInvalid("\n".join(problems))
    return folders


def _optimized(catalog: Catalog, name: str, report: Report) -> Path:
    # Only a catalog that declares passes pays for the imports of a study.
    from services.artifacts.optimize_model import optimize

    return optimize(catalog, name, lambda line: report(f"{name}: {line}")).path


def _report_verdict(artifact: Artifact, folder: Path, report: Report) -> None:
    """Report a gate's refusal; the build succeeded, but the model does not serve."""
    if artifact.optimize is None:
        return
    try:
        check_gate(Stored(folder, read_manifest(folder)))
    except ArtifactInvalid as error:
        report(f"{artifact.tag}: built, but {error}")


def _counted(report: Report, place: int, total: int) -> Report:
    """Prefix each line with the build's progress: ``[3/75]``."""
    return lambda line: report(f"[{place}/{total}] {line}")
