"""Read the options of the shop's recipes, each one of several words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runners.recipes.origin import Options
from turnout.errors import ArtifactInvalid


def chosen(recipe: str, options: Options, allowed: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the value of each option; the first allowed one by default.

    Raises:
        ArtifactInvalid: an option or its value is not among the allowed.
    """
    values = {name: str(options.get(name, words[0])) for name, words in allowed.items()}
    wrong = [name for name in options if name not in allowed]
    wrong += [name for name, value in values.items() if value not in allowed[name]]
    if wrong:
        takes = "; ".join(f"{name}: {', '.join(words)}" for name, words in allowed.items())
        raise ArtifactInvalid(f"recipe {recipe} takes {takes}; not {dict(options)}")
    return values
