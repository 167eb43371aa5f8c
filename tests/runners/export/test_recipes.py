import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runners.export import RECIPES, fingerprint, load_recipe
from turnout.errors import ArtifactInvalid

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, free to be edited."""
    for package in ("runners", "turnout"):
        shutil.copytree(_ROOT / package, tmp_path / package)
    return tmp_path


def _fingerprint(checkout: Path, recipe: str) -> str:
    code = f"from runners.export import fingerprint; print(fingerprint({recipe!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_every_recipe_has_a_fingerprint_of_its_own() -> None:
    assert len({fingerprint(name) for name in RECIPES}) == len(RECIPES)


def test_comments_docstrings_and_layout_do_not_count(checkout: Path) -> None:
    before = _fingerprint(checkout, "smollm2")
    path = checkout / "runners/export/smollm2.py"
    text = path.read_text()
    path.write_text(text.replace('"""', '"""Another word. ', 1) + "\n\n# a comment\n")
    assert _fingerprint(checkout, "smollm2") == before == fingerprint("smollm2")


def test_code_counts_also_where_it_is_only_imported(checkout: Path) -> None:
    genai, minilm = (_fingerprint(checkout, name) for name in ("smollm2-genai", "minilm"))
    path = checkout / "runners/export/smollm2.py"
    path.write_text(path.read_text().replace("0.1.2", "0.1.3"))
    assert _fingerprint(checkout, "smollm2-genai") != genai
    assert _fingerprint(checkout, "minilm") == minilm


def test_code_that_makes_a_models_inputs_counts_and_what_only_serves_it_does_not(
    checkout: Path,
) -> None:
    embedder, minilm = (_fingerprint(checkout, name) for name in ("shop-embedder", "minilm"))
    serving = checkout / "runners/tasks/embed.py"
    serving.write_text(serving.read_text() + "\n_UNUSED = 1\n")
    assert _fingerprint(checkout, "shop-embedder") == embedder
    hashing = checkout / "runners/tasks/grams.py"
    hashing.write_text(hashing.read_text().replace("MAX_GRAMS = 512", "MAX_GRAMS = 256"))
    assert _fingerprint(checkout, "shop-embedder") != embedder
    assert _fingerprint(checkout, "minilm") == minilm


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ArtifactInvalid, match="known: efficientnet-lite, fraud"):
        load_recipe("magic")


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
    code = "import sys, runners.export; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "lightgbm", "transformers"} & set(done.stdout.split())
