"""Build one artefact that the BentoML model store lacks.

An artefact's version is the hash of its recipe, the options and the recipe's version. The same
inputs are therefore never built twice, and a changed recipe is always built. A version is built
beside the store and moved in whole, by one rename: a killed build leaves nothing there. One process
builds a tag; the others wait and use its result.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from filelock import FileLock, Timeout

from runners.recipes import Origin, fetched, load_recipe, recipe_version
from runners.recipes.origin import Recipe
from services.artifacts.manifest import mark_latest, move_in
from services.artifacts.store import (
    MANIFEST,
    Stored,
    described,
    files_of,
    hash_of,
    home,
    matches,
    versions,
)
from turnout.catalog import Artifact
from turnout.errors import ArtifactInvalid

Report = Callable[[str], None]
RecipeOf = Callable[[str], Recipe]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILURES = (OSError, RuntimeError, ValueError, TypeError, KeyError)


def ensure_built(artifact: Artifact, report: Report, recipe_of: RecipeOf = load_recipe) -> Path:
    """Build one artefact if the store lacks it, and mark it latest.

    Raises:
        ArtifactInvalid: it could not be built.
    """
    target = home() / "models" / artifact.tag / version_of(artifact)
    if (added := added_by_hand(artifact)) is not None:
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


def find_built(artifact: Artifact) -> Path | None:
    """Return the same build under any tag: one from the same recipe and options."""
    manifests = (home() / "models").glob(f"*/{version_of(artifact)}/{MANIFEST}")
    return min((path.parent for path in manifests), default=None)


def add(tag: str, recipe: str, options: Mapping[str, Any], folder: Path, origin: Origin) -> Path:
    """Put files built elsewhere (say, a retrained model) into the store, marked latest.

    ``recipe`` with ``options`` resolves to them until they are deleted; ``ensure_built`` keeps
    them. The version is the hash of the files.

    Returns:
        Their folder in the store.
    """
    return put(Artifact(tag=tag, recipe=recipe, options=dict(options)), folder, origin)


def put(
    artifact: Artifact, folder: Path, origin: Origin, more: Mapping[str, Any] | None = None
) -> Path:
    """Put finished files into the store as an artefact of the catalog.

    Args:
        artifact: the artefact's catalog entry.
        folder: the folder of the files, which are copied.
        origin: the files' sources.
        more: further entries of the manifest.
    """
    names = sorted(files_of(folder))
    content = "".join(f"{name} {hash_of(folder / name)}\n" for name in names)
    content += json.dumps(described(artifact), sort_keys=True)
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


def added_by_hand(artifact: Artifact) -> Stored | None:
    """Return the version that was added by hand and is marked latest, if it fits the catalog."""
    latest = next(versions(home() / "models" / artifact.tag), None)
    fits = (
        latest is not None and latest.manifest.get("added") and matches(latest.manifest, artifact)
    )
    return latest if fits else None


def version_of(artifact: Artifact) -> str:
    """Return the version this artefact has when built today: 16 hexadecimal digits."""
    if artifact.recipe is not None:
        inputs = [artifact.recipe, dict(artifact.options), recipe_version(artifact.recipe)]
    else:
        files = {name: file.sha256 for name, file in artifact.files.items()}
        inputs = [artifact.source, artifact.sha256, files]
    if artifact.optimize is not None:
        inputs.append(described(artifact)["optimize"])
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _build(
    artifact: Artifact, recipe_of: RecipeOf, work: Path, target: Path, report: Report
) -> None:
    # Under the lock, so any files here are leftovers of a killed build.
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
    return fetched.build(artifact, out, report)


def _locked(path: Path, tag: str, report: Report) -> FileLock:
    """Acquire a lock across processes; the system frees it when its process dies."""
    lock = FileLock(path)
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return lock
    report(f"{tag}: another process is building it; waiting")
    lock.acquire()
    return lock


def explain(error: BaseException, command: str = "turnout models build") -> str:
    """Return a message about a failed build, with the remedy."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            f"the disk is full ({error}); free some space, or set BENTOML_HOME and TURNOUT_CACHE "
            f"to a larger disk, then run `{command}` again"
        )
    return f"the build failed: {type(error).__name__}: {error}"
