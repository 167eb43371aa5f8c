"""Fetch a causal language model from the Hugging Face hub: a pinned revision, safetensors only.

For machines that reach a hub; nothing in the default catalog needs it. The download is unverified
(no hub was reachable); the handling of a fetched folder is tested.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from huggingface_hub import snapshot_download

from runners.recipes.origin import Options, Origin, Report, Source
from turnout.errors import ArtifactInvalid

_WANTED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model", "LICENSE*")
_LICENSE = "see the model card"


def build(options: Options, out: Path, report: Report) -> Origin:
    """Fetch ``options`` ``repo`` at ``revision`` into ``out``.

    Raises:
        ArtifactInvalid: an option is missing, the hub does not answer, or the model has no
            safetensors (pickled weights are refused).
    """
    repo, revision = options.get("repo"), options.get("revision")
    if set(options) != {"repo", "revision"}:
        raise ArtifactInvalid(f"recipe hub takes repo and revision, not {dict(options)}")
    report(f"fetching {repo}@{revision}")
    try:
        folder = snapshot_download(str(repo), revision=str(revision), allow_patterns=list(_WANTED))
    except Exception as error:
        # The hub's client raises its own, requests' and the system's errors.
        raise ArtifactInvalid(
            f"could not fetch {repo}@{revision} from the hub: {type(error).__name__}: {error}; "
            "check the name, the revision, the network and HF_TOKEN"
        ) from error
    return take(Path(folder), out, f"hf:{repo}@{revision}")


def take(folder: Path, out: Path, url: str) -> Origin:
    """Copy a fetched snapshot into ``out``; its commit serves as its hash.

    Raises:
        ArtifactInvalid: it has no safetensors or no configuration.
    """
    if not any(folder.glob("*.safetensors")):
        raise ArtifactInvalid(
            f"{url} has no .safetensors files; pickled weights are refused: convert the model, or "
            "name a revision that has them"
        )
    if not (folder / "config.json").is_file():
        raise ArtifactInvalid(f"{url} has no config.json: it is not a transformers model")
    for file in sorted(folder.iterdir()):
        if file.is_file():
            shutil.copyfile(file, out / file.name)
    return Origin(
        sources=(Source(url, folder.name, _LICENSE),),
        measured={},
        built_with=("huggingface_hub", "transformers"),
    )
