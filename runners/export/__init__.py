"""Build recipes: how a model's files are made from their sources. Never imported while serving."""

from runners.export.origin import Origin, Source
from runners.export.recipes import RECIPES, fingerprint, load_recipe

__all__ = ["RECIPES", "Origin", "Source", "fingerprint", "load_recipe"]
