import subprocess
import sys
from pathlib import Path

import pytest

from runners.optimize.registry import PASSES
from runners.recipes import RECIPES, load_recipe, recipe_version
from runners.recipes.versions import PASS_VERSIONS, RECIPE_VERSIONS
from turnout.errors import ArtifactInvalid
from turnout.settings import PROJECT

_ROOT = PROJECT


def test_every_recipe_and_pass_has_a_version_of_its_own() -> None:
    assert RECIPE_VERSIONS.keys() == RECIPES.keys()
    assert PASS_VERSIONS.keys() == PASSES.keys()
    for versions in (RECIPE_VERSIONS, PASS_VERSIONS):
        long = [version for version in versions.values() if len(version) == 64]
        assert len(set(long)) == len(long)
    assert {name: recipe_version(name) for name in RECIPES} == RECIPE_VERSIONS


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ArtifactInvalid, match="known: efficientnet-lite, fraud"):
        load_recipe("magic")
    with pytest.raises(ArtifactInvalid, match="known: efficientnet-lite, fraud"):
        recipe_version("magic")


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("fraud", {"size": "huge"}),
        ("fraud", {"colour": "red"}),
        ("minilm", {"size": "small"}),
        ("smollm2", {"size": "small"}),
        ("smollm2-genai", {"precision": "int2"}),
        ("efficientnet-lite", {"variant": 3}),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    recipe: str, options: dict[str, str | int], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactInvalid, match="takes"):
        load_recipe(recipe)(options, tmp_path, lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_not_imported_with_the_dictionary() -> None:
    code = "import sys, runners.recipes; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "lightgbm", "transformers"} & set(done.stdout.split())
