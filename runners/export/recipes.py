"""Every build recipe by name, imported only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from runners.export.origin import Recipe
from runners.export.versions import RECIPE_VERSIONS
from turnout.errors import ArtifactInvalid

RECIPES: Mapping[str, str] = {
    "efficientnet-lite": "runners.export.efficientnet:build",
    "fraud": "runners.export.fraud.recipe:build",
    "minilm": "runners.export.minilm:build",
    "minilm-int8": "runners.export.minilm_int8:build",
    "hub": "runners.export.hub:build",
    "shop-cards": "runners.export.shop.cards:build",
    "shop-classifier": "runners.export.shop.classifier:build",
    "shop-embedder": "runners.export.shop.embedder:build",
    "shop-index": "runners.export.shop.index:build",
    "shop-ranker": "runners.export.shop.ranker:build",
    "shop-recommender": "runners.export.shop.recommender:build",
    "shop-reranker": "runners.export.shop.reranker:build",
    "shop-risk": "runners.export.shop.risk:build",
    "smollm2": "runners.export.smollm2:build",
    "smollm2-genai": "runners.export.smollm2_genai:build",
}


def load_recipe(name: str) -> Recipe:
    """Import a recipe.

    Raises:
        ArtifactInvalid: no recipe has this name, or what it builds with is not installed.
    """
    module, _, function = _target(name).partition(":")
    try:
        return cast("Recipe", getattr(importlib.import_module(module), function))
    except ModuleNotFoundError as error:
        raise ArtifactInvalid(
            f"recipe {name!r} needs {error.name}, which is not installed; "
            "install the build requirements: pip install 'turnout[build]'"
        ) from error


def recipe_version(name: str) -> str:
    """The version of a recipe's result; see ``runners.export.versions``.

    Raises:
        ArtifactInvalid: no recipe has this name.
    """
    _target(name)
    return RECIPE_VERSIONS[name]


def _target(name: str) -> str:
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ArtifactInvalid(f"no recipe is named {name!r}; known: {known}") from None
