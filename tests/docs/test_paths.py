"""Every file or folder of the repository that a page names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs/decisions").glob("*.md"),
    )
)

_TOPS = "services|runners|routing|turnout|tests|benchmarks|deploy|catalog"
_PATH = re.compile(rf"`((?:{_TOPS})/[^`\s]*)`")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
_NAME = re.compile(r"`([a-z_]+/[\w/]+\.py)` `(\w+)(?:\.(\w+))?`")
_MODULE = re.compile(r"`(?:python -m )?((?:services|runners|routing|turnout|benchmarks)(?:\.\w+)+)")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = [ROOT / path for path in _PATH.findall(text)]
    links = [(ROOT / page).parent / link for link in _LINK.findall(text)]
    missing = [str(path) for path in (*paths, *links) if not path.exists()]
    missing += [module for module in _MODULE.findall(text) if not module_exists(module)]
    missing += [
        f"{path}: {name}"
        for path, *names in _NAME.findall(text)
        for name in filter(None, names)
        if not re.search(rf"(class|def) {name}\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not missing


def module_exists(name: str) -> bool:
    """Whether a module or package is there, or a name that its parent's source holds."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    source = path.parent.with_suffix(".py")
    return source.exists() and path.name in source.read_text(encoding="utf-8")


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md"} <= set(PAGES)
