"""Recipes build a model's files from their sources. Never imported while serving."""

from runners.recipes.origin import Origin, Source
from runners.recipes.registry import RECIPES, load_recipe, recipe_version

__all__ = ["RECIPES", "Origin", "Source", "load_recipe", "recipe_version"]
