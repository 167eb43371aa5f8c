"""Every build recipe by name, imported only when it is used."""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import cast

from runners.export.origin import Recipe
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

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("runners.export", "runners.optimize", "runners.tasks")


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


@cache
def fingerprint(name: str) -> str:
    """Hash of a recipe's code, with the hashes of its sources, which stand in it.

    Returns:
        Hexadecimal SHA-256; see ``code_hash``.
    """
    return code_hash(_target(name).partition(":")[0])


def code_hash(module: str) -> str:
    """Hash of a module's code: the same text means the same result.

    Covers every module that it imports of the building packages, and of those that make a model's
    inputs: a model fits the code that made what it was trained on. Comments, docstrings and layout
    don't count.

    Returns:
        Hexadecimal SHA-256.
    """
    digest = hashlib.sha256()
    for path in sorted(_reachable(module)):
        digest.update(path.relative_to(_ROOT).as_posix().encode())
        digest.update(ast.dump(_without_docstrings(path)).encode())
    return digest.hexdigest()


def _target(name: str) -> str:
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ArtifactInvalid(f"no recipe is named {name!r}; known: {known}") from None


def _reachable(module: str) -> set[Path]:
    seen: set[Path] = set()
    todo = [module]
    while todo:
        path = _ROOT / (todo.pop().replace(".", "/") + ".py")
        if path not in seen and path.is_file():
            seen.add(path)
            todo.extend(_imports(ast.parse(path.read_text())))
    return seen


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGES):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(_PACKAGES))


def _without_docstrings(path: Path) -> ast.AST:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body.pop(0)
    return tree
