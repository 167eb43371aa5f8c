"""The artifacts that a service declares to BentoML, so that a built Bento carries them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import bentoml
from bentoml.exceptions import NotFound

from services.artifacts.store import home, resolve
from turnout.catalog import Artifact, Model
from turnout.errors import ArtifactInvalid


def bento_models(models: Iterable[Model]) -> dict[str, Any]:
    """Class attributes that declare the artifacts of these models, by tag.

    An artifact that was never built is left out: BentoML would refuse to start at all, while a
    fleet serves without the one model that has no files.
    """
    tags: dict[str, list[Artifact]] = {}
    for model in models:
        if model.artifact is not None and model.artifact not in tags.get(model.artifact.tag, ()):
            tags.setdefault(model.artifact.tag, []).append(model.artifact)
    names = [name for tag, artifacts in tags.items() if _built(tag) for name in _named(artifacts)]
    return {
        f"artifact_{index}": bentoml.models.BentoModel(name) for index, name in enumerate(names)
    }


def _named(artifacts: Sequence[Artifact]) -> Iterator[str]:
    """A tag's only build, as its latest; of several builds, those that models use."""
    tag = artifacts[0].tag
    if len(list((home() / "models" / tag).glob("*/"))) <= 1:
        yield f"{tag}:latest"
        return
    for artifact in artifacts:
        with suppress(ArtifactInvalid):
            yield f"{artifact.tag}:{resolve(artifact).name}"


def _built(tag: str) -> bool:
    if (home() / "models" / tag / "latest").is_file():
        return True  # BentoML would read and check each model's description: 4 ms a model
    try:
        bentoml.models.get(f"{tag}:latest")
    except NotFound:
        return False
    return True
