"""Build what a catalog names and the BentoML model store lacks.

An artefact's version is the hash of all that shapes it: recipe, options, the recipe's code (with
the hashes of its sources in it). So the same inputs are never built twice, and a changed recipe
always is. A version is built beside the store and moved in whole, by one rename: a build that
was killed leaves nothing there. One process builds a tag; others wait and find it done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from runners.recipes import Origin, load_recipe, recipe_version
from runners.recipes.origin import Recipe
from services.artifacts import store
from services.artifacts.manifest import mark_latest, move_in
from services.artifacts.store import (
    MANIFEST,
    Stored,
    files_of,
    hash_of,
    home,
    matches,
    versions,
)
from turnout.catalog import split
from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from turnout.catalog import Artifact, Catalog

Report = Callable[[str], None]
RecipeOf = Callable[[str], Recipe]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILURES = (OSError, RuntimeError, ValueError, TypeError, KeyError)


def ensure(
    catalog: Catalog,
    report: Report,
    only: Collection[str] | None = None,
    recipe_of: RecipeOf = load_recipe,
) -> Mapping[str, Path]:
    """Build every missing artefact of a catalog.

    Args:
        catalog: the catalog.
        report: told what happens, one line each.
        only: names of models or tags to look at; all if None.
        recipe_of: gives the recipe of a name.

    Returns:
        The folder of each artefact, by tag.

    Raises:
        ArtifactInvalid: some could not be built (the others were), each with the way out.
    """
    wanted = {
        (model.artifact.tag, version_of(model.artifact)): (name, model.artifact)
        for name, model in catalog.models.items()
        if model.artifact is not None
        and (only is None or {name, split(name)[0], model.artifact.tag} & set(only))
    }
    if only and not wanted:
        raise ArtifactInvalid(f"the catalog has no model or tag named {', '.join(sorted(only))}")
    folders: dict[str, Path] = {}
    problems: list[str] = []
    for place, (name, artifact) in enumerate(wanted.values(), start=1):
        tell = _counted(report, place, len(wanted))
        try:
            if artifact.optimize is not None and _added(artifact) is None:
                folders[artifact.tag] = _optimized(catalog, name, tell)
            else:
                folders[artifact.tag] = ensure_one(artifact, tell, recipe_of)
            _tell_verdict(artifact, folders[artifact.tag], tell)
        except ArtifactInvalid as error:
            problems.append(f"{artifact.tag}: {error}")
            tell(f"{artifact.tag}: failed: {error}")
    if problems:
        raise ArtifactInvalid("\n".join(problems))
    return folders


def _optimized(catalog: Catalog, name: str, report: Report) -> Path:
    from services.artifacts import optimize_model as optimizing

    return optimizing.optimize(catalog, name, lambda line: report(f"{name}: {line}")).path


def _tell_verdict(artifact: Artifact, folder: Path, report: Report) -> None:
    """A refusal is no failure: the model is built, and stays out until its gate passes it."""
    if artifact.optimize is None:
        return
    try:
        store.check_gate(Stored(folder, store.read_manifest(folder)))
    except ArtifactInvalid as error:
        report(f"{artifact.tag}: built, but {error}")


def _counted(report: Report, place: int, total: int) -> Report:
    """Say how far a build is: ``[3/75]`` before each line."""
    return lambda line: report(f"[{place}/{total}] {line}")


def ensure_one(artifact: Artifact, report: Report, recipe_of: RecipeOf = load_recipe) -> Path:
    """Build one artefact if the store lacks it, and mark it latest.

    Raises:
        ArtifactInvalid: it could not be built.
    """
    target = home() / "models" / artifact.tag / version_of(artifact)
    if (added := _added(artifact)) is not None:
        how = "optimised before" if artifact.optimize else "which was added by hand"
        report(f"{artifact.tag}: kept {added.tag}, {how}")
        return added.path
    if artifact.optimize is not None:
        raise ArtifactInvalid(f"{artifact.tag} was never optimised; run `turnout optimize MODEL`")
    if not (target / MANIFEST).is_file():
        work = home() / "turnout" / "building" / artifact.tag
        try:
            work.parent.mkdir(parents=True, exist_ok=True)
            with _locked(work.with_suffix(".lock"), artifact.tag, report):
                if not (target / MANIFEST).is_file():
                    _build(artifact, recipe_of, work, target, report)
        except _FAILURES as error:
            raise ArtifactInvalid(explain(error)) from error
    mark_latest(target)
    return target


def find(artifact: Artifact) -> Path | None:
    """The same files under whatever tag: an artefact built from the same recipe and options."""
    name = version_of(artifact)
    found = sorted((home() / "models").glob(f"*/{name}/{MANIFEST}"))
    return found[0].parent if found else None


def add(tag: str, recipe: str, options: Mapping[str, Any], folder: Path, origin: Origin) -> Path:
    """Put files made elsewhere (say, a retrained model) into the store, marked latest.

    They are what ``recipe`` with ``options`` resolves to until they are deleted; ``ensure`` keeps
    them. The version is the hash of the files.

    Returns:
        Their folder in the store.
    """
    from turnout.catalog import Artifact

    return put(Artifact(tag=tag, recipe=recipe, options=dict(options)), folder, origin)


def put(
    artifact: Artifact, folder: Path, origin: Origin, more: Mapping[str, Any] | None = None
) -> Path:
    """Put finished files into the store as what an artefact of the catalog resolves to.

    Args:
        artifact: what they are.
        folder: the files; copied.
        origin: where they come from.
        more: further entries of the manifest.
    """
    names = sorted(files_of(folder))
    content = "".join(f"{name} {hash_of(folder / name)}\n" for name in names)
    content += json.dumps(store.described(artifact), sort_keys=True)
    version_name = hashlib.sha256(content.encode()).hexdigest()[:16]
    target = home() / "models" / artifact.tag / version_name
    if not (target / MANIFEST).is_file():
        work = home() / "turnout" / "building"
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            out = shutil.copytree(folder, Path(scratch) / "files")
            move_in(artifact, out, target, origin, {"added": True, **(more or {})})
    mark_latest(target)
    return target


def _added(artifact: Artifact) -> Stored | None:
    """What was added by hand and is marked latest, if it is what the catalog asks for."""
    latest = next(versions(home() / "models" / artifact.tag), None)
    fits = (
        latest is not None and latest.manifest.get("added") and matches(latest.manifest, artifact)
    )
    return latest if fits else None


def version_of(artifact: Artifact) -> str:
    """The version this artefact has when built today: 16 hexadecimal digits."""
    if artifact.recipe is not None:
        inputs = [artifact.recipe, dict(artifact.options), recipe_version(artifact.recipe)]
    else:
        files = {name: file.sha256 for name, file in artifact.files.items()}
        inputs = [artifact.source, artifact.sha256, files]
    if artifact.optimize is not None:
        inputs.append(store.described(artifact)["optimize"])
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _build(
    artifact: Artifact, recipe_of: RecipeOf, work: Path, target: Path, report: Report
) -> None:
    # Under the lock, so what lies here is what a killed build left behind.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    started_s = monotonic()
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        out = Path(scratch) / "files"
        out.mkdir()
        origin = _make(artifact, recipe_of, out, lambda line: report(f"{artifact.tag}: {line}"))
        move_in(artifact, out, target, origin)
    report(f"{artifact.tag}: built in {monotonic() - started_s:.0f} s")


def _make(artifact: Artifact, recipe_of: RecipeOf, out: Path, report: Report) -> Origin:
    if artifact.recipe is not None:
        return recipe_of(artifact.recipe)(artifact.options, out, report)
    from runners.recipes import fetched

    return fetched.build(artifact, out, report)


def _locked(path: Path, tag: str, report: Report) -> FileLock:
    """A lock held across processes, freed by the system when its process dies."""
    lock = FileLock(path)
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return lock
    report(f"{tag}: another process is building it; waiting")
    lock.acquire()
    return lock


def explain(error: BaseException, command: str = "turnout models build") -> str:
    """What went wrong with a build, and the way out."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            f"the disk is full ({error}); free some space, or set BENTOML_HOME and TURNOUT_CACHE "
            f"to a larger disk, then run `{command}` again"
        )
    return f"the build failed: {type(error).__name__}: {error}"
