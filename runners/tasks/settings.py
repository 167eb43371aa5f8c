"""``task.json``: the settings of a task in a model's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from pathlib import Path

FILE = "task.json"


class Settings:
    """The settings of one model's task.

    Args:
        folder: the model's folder.

    Raises:
        ArtifactInvalid: ``task.json`` is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            values = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise self._invalid(str(error)) from error
        if not isinstance(values, dict):
            raise self._invalid("it is not a JSON object")
        self._values: dict[str, Any] = values

    def number(self, name: str) -> int:
        """Return a whole number, at least 1.

        Raises:
            ArtifactInvalid: the setting is missing or of another type.
        """
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._invalid(f"{name} is {value!r}, not a number of at least 1")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        """Return a list of texts, at least one.

        Raises:
            ArtifactInvalid: the setting is missing or of another type.
        """
        value = self._values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self._invalid(f"{name} is not a list of texts")
        return tuple(value)

    def _invalid(self, reason: str) -> ArtifactInvalid:
        return ArtifactInvalid(f"{self._path} cannot be used ({reason}); build the model again")
