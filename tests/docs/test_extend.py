"""The recipes of docs/extend.md, carried out from the page on a copy of the packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("turnout", "routing", "runners", "services")
MOST_FILES = 3

_BLOCK = re.compile(r"^```(\w+)(?: (title|run)=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``python``, ``diff`` or ``text``, with its file's name or none."""

    language: str
    kind: str | None
    name: str | None
    text: str


def blocks_of(section: str) -> list[Block]:
    return [Block(*match.groups(default="")) for match in _BLOCK.finditer(section)]


def sections() -> dict[str, list[Block]]:
    page = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    titles_and_texts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    texts = {"toy": titles_and_texts[0]}
    texts |= dict(zip(titles_and_texts[1::2], titles_and_texts[2::2], strict=True))
    return {title: blocks_of(text) for title, text in texts.items()}


def edited(text: str, diff: str) -> str:
    """``text`` with the edits made, which lines ``@@`` part; each must fit exactly one place."""
    for edit in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = edit.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        new = "".join(line[1:] for line in lines if line[0] != "-")
        assert text.count(old) == 1, f"these lines are not, or not once, there:\n{old}"
        text = text.replace(old, new)
    return text


def carry_out(recipe: Sequence[Block], folder: Path) -> list[str]:
    """Write and edit the recipe's files in a copy of the packages; returns their names."""
    touched: list[str] = []
    for block in recipe:
        if block.kind != "title" or not block.name:
            continue
        path = folder / block.name
        if block.language == "diff":
            path.write_text(edited(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")
        else:
            assert not path.exists(), f"{block.name} is there already"
            path.write_text(block.text, encoding="utf-8")
        touched.append(block.name)
    return touched


def demonstrate(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what is under "See it work" against the packages in ``folder``."""
    (folder / "see.py").write_text(script, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if "TURNOUT" not in name}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "see.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the packages, and the page's toy gateway beside them."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    carry_out(sections()["toy"], tmp_path)
    return tmp_path


@pytest.mark.parametrize("title", ["An engine", "A routing policy", "An endpoint", "A metric"])
def test_a_recipe_works_as_the_page_says(title: str, checkout: Path) -> None:
    recipe = sections()[title]
    script = next(block.text for block in recipe if block.kind == "run")
    printed = next(block.text for block in recipe if block.language == "text")
    touched = carry_out(recipe, checkout)
    assert 1 <= len(touched) <= MOST_FILES
    result = demonstrate(script, checkout)
    assert result.stdout == printed, result.stderr


def test_an_edit_whose_place_is_gone_fails() -> None:
    with pytest.raises(AssertionError, match="not, or not once"):
        edited("a = 1\n", " b = 1\n+c = 1\n")
    with pytest.raises(AssertionError, match="not, or not once"):
        edited("a = 1\na = 1\n", " a = 1\n+c = 1\n")
    assert edited("a\nb\n", "-a\n+x\n@@\n+y\n b\n") == "x\ny\nb\n"
