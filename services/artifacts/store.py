"""Look up a model's files, without importing anything heavy.

Artefacts live in the BentoML model store (``$BENTOML_HOME/models``, default ``~/bentoml``), or,
inside a built Bento, beside its source. Each has ``artifact.json``: what it is, where it came
from, and the hash of every file. ``services/artifacts/build.py`` builds the missing ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from turnout.catalog import Artifact

MANIFEST = "artifact.json"
BENTOML_FILE = "model.yaml"
_UNHASHED = frozenset({MANIFEST, BENTOML_FILE})


@dataclass(frozen=True, slots=True)
class Stored:
    """One artefact in the store.

    Attributes:
        path: its folder.
        manifest: its ``artifact.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def tag(self) -> str:
        """Return ``name:version``, as BentoML writes it."""
        return f"{self.path.parent.name}:{self.path.name}"

    @property
    def size_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def home() -> Path:
    """Return BentoML's home: ``$BENTOML_HOME``, else ``~/bentoml``."""
    folder = os.environ.get("BENTOML_HOME")
    return Path(folder).expanduser() if folder else Path.home() / "bentoml"


def model_folders() -> Iterator[Path]:
    """Yield the model stores to look in: this Bento's own, then the home's."""
    bento = Path(__file__).resolve().parents[3]
    if (bento / "bento.yaml").is_file() and (bento / "models").is_dir():
        yield bento / "models"
    yield home() / "models"


def resolve(artifact: Artifact) -> Path:
    """Return the folder of an artefact's files.

    The version marked latest is taken when it was built with the catalog's recipe and options,
    else the newest that was.

    Raises:
        ArtifactInvalid: it was never built, only with other options, or its gate refused it.
    """
    mismatches = 0
    for folder in model_folders():
        for stored in versions(folder / artifact.tag):
            if matches(stored.manifest, artifact):
                check_gate(stored)
                return stored.path
            mismatches += 1
    why = (
        "it was built from another recipe or with other options" if mismatches else "not built yet"
    )
    command = "turnout optimize MODEL" if artifact.optimize else "turnout models build"
    raise ArtifactInvalid(
        f"model files {artifact.tag!r} are not in the store ({why}); run `{command}`. "
        f"Looked in {', '.join(str(folder) for folder in model_folders())}"
    )


def matches(manifest: Mapping[str, Any], artifact: Artifact) -> bool:
    """Return whether a stored artefact matches the catalog's."""
    return (
        manifest.get("recipe") == artifact.recipe
        and manifest.get("options") == artifact.options
        and {key: manifest[key] for key in _DESCRIBED if key in manifest} == described(artifact)
    )


def check_gate(stored: Stored) -> None:
    """Refuse an optimised artefact that its gate has not passed; others have no gate.

    Raises:
        ArtifactInvalid: the gate refused it or never judged it; with the report's path.
    """
    if "optimize" not in stored.manifest:
        return
    gate = stored.manifest.get("gate") or {"passed": False, "why": ["it was never judged"]}
    if not gate["passed"]:
        raise ArtifactInvalid(
            f"{stored.tag} may not serve, its gate refused it: {'; '.join(gate['why'])}. "
            f"See {stored.path / 'report.html'}; run `turnout optimize MODEL --inputs FOLDER` on "
            "more inputs, choose other passes, or serve the model without `optimize`"
        )


_DESCRIBED = ("source", "sha256", "files_from", "optimize")


def described(artifact: Artifact) -> Mapping[str, Any]:
    """Return a manifest's entries besides the recipe: the source's addresses, the passes."""
    passes = artifact.optimize
    entries = {
        "source": artifact.source,
        "sha256": artifact.sha256,
        "files_from": {name: [file.source, file.sha256] for name, file in artifact.files.items()},
        "optimize": passes.model_dump(mode="json", exclude_none=True) if passes else None,
    }
    return {key: value for key, value in entries.items() if value}


def stored() -> list[Stored]:
    """Return every artefact of this project in the store, by tag."""
    listed = [
        version
        for folder in model_folders()
        if folder.is_dir()
        for name in sorted(folder.iterdir())
        if name.is_dir()
        for version in versions(name)
    ]
    return list({version.path: version for version in listed}.values())


def verify(path: Path) -> Mapping[str, Any]:
    """Compare every file of an artefact with its recorded hash.

    Returns:
        The manifest.

    Raises:
        ArtifactInvalid: with the file that is missing, changed or unknown.
    """
    manifest = read_manifest(path)
    recorded: Mapping[str, str] = manifest["files"]
    present = set(files_of(path))
    if missing := sorted(set(recorded) - present):
        raise ArtifactInvalid(f"{path}: {missing[0]} is missing; {_REBUILD}")
    if unknown := sorted(present - set(recorded)):
        raise ArtifactInvalid(f"{path}: {unknown[0]} does not belong to it; {_REBUILD}")
    for name, expected in recorded.items():
        if hash_of(path / name) != expected:
            raise ArtifactInvalid(f"{path}: {name} has changed since the build; {_REBUILD}")
    return manifest


_REBUILD = "remove this folder and run `turnout models build`"


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Read ``artifact.json``.

    Raises:
        ArtifactInvalid: it is missing or not readable.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactInvalid(f"{path / MANIFEST} cannot be read ({error}); {_REBUILD}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ArtifactInvalid(f"{path / MANIFEST} lists no files; {_REBUILD}")
    return manifest


def files_of(path: Path) -> Iterator[str]:
    """Yield the names of an artefact's own files, relative to its folder."""
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_file() and name not in _UNHASHED:
            yield name


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the hashes of all files, in hexadecimal."""
    lines = (f"{name} {value}\n" for name, value in sorted(manifest["files"].items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def versions(folder: Path) -> Iterator[Stored]:
    """Yield an artefact's versions, the one marked latest first, then the newest."""
    if not folder.is_dir():
        return
    mark = folder / "latest"
    latest = mark.read_text().strip() if mark.is_file() else ""
    manifests = [path for path in folder.glob(f"*/{MANIFEST}") if path.is_file()]
    manifests.sort(key=lambda path: (path.parent.name != latest, -path.stat().st_mtime))
    for path in manifests:
        yield Stored(path.parent, read_manifest(path.parent))
