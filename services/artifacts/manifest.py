"""Make finished files an artefact of the store: write its manifest and move it in by one rename."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.artifacts.store import BENTOML_FILE, MANIFEST, described, files_of, hash_of
from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from runners.recipes import Origin
    from turnout.catalog import Artifact

_REFUSED = frozenset({".pkl", ".pickle", ".joblib", ".pth", ".pt", ".bin", ".ckpt"})


def move_in(
    artifact: Artifact,
    out: Path,
    target: Path,
    origin: Origin,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder's manifest and move it to ``target`` by one rename; see ``seal``."""
    manifest = seal(artifact, out, origin, more)
    target.parent.mkdir(parents=True, exist_ok=True)
    _write_model_yaml(target.parent.name, target.name, manifest, out)
    out.rename(target)


def seal(
    artifact: Artifact, out: Path, origin: Origin, more: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Write ``artifact.json``, with ``more`` in it, into a folder of finished files; return it.

    Raises:
        ArtifactInvalid: a file may run code when it is read, or the folder is empty.
    """
    names = list(files_of(out))
    if not names:
        raise ArtifactInvalid(f"{artifact.origin!r} wrote no file")
    for name in names:
        if Path(name).suffix in _REFUSED:
            raise ArtifactInvalid(
                f"{artifact.origin!r} wrote a pickle: {name}; write safetensors, ONNX or GGUF"
            )
    manifest = {
        "tag": artifact.tag,
        **({"recipe": artifact.recipe} if artifact.recipe else {}),
        "options": dict(artifact.options),
        **described(artifact),
        "origin": [
            {"url": source.url, "sha256": source.sha256, "license": source.license}
            for source in origin.sources
        ],
        "files": {name: hash_of(out / name) for name in names},
        "built_with": {name: _installed(name) for name in ("turnout", *origin.built_with)},
        "measured": dict(origin.measured),
        "added": False,
        **(more or {}),
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def _write_model_yaml(name: str, tag_version: str, manifest: Mapping[str, Any], out: Path) -> None:
    """Write the file by which BentoML recognises the folder as a model.

    ``bentoml.models.create`` copies into the store file by file, so that a killed build would
    look complete; hence this file is written here, and the folder is moved by one rename.
    """
    # Imported by a build only: `turnout serve` starts without it when nothing is missing.
    from bentoml import Tag
    from bentoml._internal.models.model import ModelContext, ModelInfo, ModelOptions

    licenses = sorted({source["license"] for source in manifest["origin"]})
    info = ModelInfo(
        tag=Tag(name, tag_version),
        module="",
        labels={
            "recipe": manifest.get("recipe", "fetched"),
            "license": "-".join(licenses) or "Apache-2.0",
        },
        options=ModelOptions(),
        metadata=dict(manifest),
        context=ModelContext(framework_name="", framework_versions={}),
        signatures={},
        api_version="v1",
    )
    with (out / BENTOML_FILE).open("w") as file:
        info.dump(file)


def mark_latest(target: Path) -> None:
    """Mark this version as BentoML's ``latest``."""
    mark = target.parent / "latest"
    if not mark.is_file() or mark.read_text().strip() != target.name:
        fresh = target.parent / f".latest-{target.name}"
        fresh.write_text(target.name)
        fresh.replace(mark)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
