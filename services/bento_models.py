"""Which artifacts a service declares to BentoML, so that a built Bento carries them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bentoml
from bentoml.exceptions import NotFound

from services.store import home
from turnout.catalog import Model


def bento_models(models: Iterable[Model]) -> dict[str, Any]:
    """Class attributes that declare the artifacts of these models, by tag.

    An artifact that was never built is left out: BentoML would refuse to start at all, while a
    fleet serves without the one model that has no files.
    """
    tags = dict.fromkeys(model.artifact.tag for model in models if model.artifact is not None)
    return {
        f"artifact_{index}": bentoml.models.BentoModel(f"{tag}:latest")
        for index, tag in enumerate(tags)
        if _built(tag)
    }


def _built(tag: str) -> bool:
    if (home() / "models" / tag / "latest").is_file():
        return True  # BentoML would read and check each model's description: 4 ms a model
    try:
        bentoml.models.get(f"{tag}:latest")
    except NotFound:
        return False
    return True
