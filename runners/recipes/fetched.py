"""Build an artefact from files at addresses in the catalog, without a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runners.recipes.address import fetch_file, file_name
from runners.recipes.origin import Origin, Report, Source
from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from turnout.catalog import Artifact

_NAMES: Mapping[str, str] = {
    ".onnx": "model.onnx",
    ".safetensors": "model.safetensors",
    ".gguf": "model.gguf",
}


def build(artifact: Artifact, out: Path, report: Report) -> Origin:
    """Fetch every file of an artefact into ``out`` and check each hash.

    Raises:
        ArtifactInvalid: see ``fetch_file``; also when the model's file is not of a model format.
    """
    files = {
        name: (file.source, file.sha256, file.license) for name, file in artifact.files.items()
    }
    source, sha256 = artifact.source, artifact.sha256
    if source is None or sha256 is None:
        raise ArtifactInvalid(f"artefact {artifact.tag} has neither a recipe nor a source")
    suffix = PurePosixPath(file_name(source)).suffix.lower()
    if suffix in _NAMES:
        files[_NAMES[suffix]] = (source, sha256, artifact.license)
    else:
        fetch_file(source, sha256, report)  # raises with the kind's own message
        raise ArtifactInvalid(
            f"{source} is not a model file; name an .onnx, .safetensors or .gguf file"
        )
    for name, (address, expected, _) in files.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fetch_file(address, expected, report), target)
    return Origin(
        sources=tuple(Source(address, expected, kind) for address, expected, kind in files.values())
    )
