"""The registry of recipes by name; a recipe is imported only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from runners.recipes.origin import Recipe
from runners.recipes.versions import RECIPE_VERSIONS
from turnout.errors import ArtifactInvalid

RECIPES: Mapping[str, str] = {
    "efficientnet-lite": "runners.recipes.efficientnet:build",
    "fraud": "runners.recipes.fraud.recipe:build",
    "minilm": "runners.recipes.minilm:build",
    "minilm-int8": "runners.recipes.minilm_int8:build",
    "hub": "runners.recipes.hub:build",
    "shop-cards": "runners.recipes.shop.cards:build",
    "shop-classifier": "runners.recipes.shop.classifier:build",
    "shop-embedder": "runners.recipes.shop.embedder:build",
    "shop-index": "runners.recipes.shop.index:build",
    "shop-ranker": "runners.recipes.shop.ranker:build",
    "shop-recommender": "runners.recipes.shop.recommender:build",
    "shop-reranker": "runners.recipes.shop.reranker:build",
    "shop-risk": "runners.recipes.shop.risk:build",
    "smollm2": "runners.recipes.smollm2:build",
    "smollm2-genai": "runners.recipes.smollm2_genai:build",
}


def load_recipe(name: str) -> Recipe:
    """Import a recipe and return its function.

    Raises:
        ArtifactInvalid: no recipe has this name, or a package that it needs is not installed.
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
    """Return the version of a recipe's result; see ``runners.recipes.versions``.

    Raises:
        ArtifactInvalid: no recipe has this name.
    """
    _target(name)
    return RECIPE_VERSIONS[name]


def _target(name: str) -> str:
    try:
        return RECIPES[name]
    except KeyError:
        names = ", ".join(sorted(RECIPES))
        raise ArtifactInvalid(f"no recipe is named {name!r}; known: {names}") from None
