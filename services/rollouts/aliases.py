"""The aliases of one model: which version is production, and which is its canary. Pure.

The catalog says where a model's aliases begin. From then on the latest change counts, whether an
operator makes it, a trial, or an edit of what the catalog says of this model; ``steps`` has the
changes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from turnout.catalog import Canary, Catalog, Versioned, model_name


@dataclass(frozen=True, slots=True)
class Aliases:
    """The aliases of a model.

    Attributes:
        production: the version that answers to its name.
        canary: the version on trial; None when there is none.
        previous: production before the last promotion.
        taken_back: the last rejected canary, until another trial begins or it is promoted.
        taken_back_why: the reason of that.
        trials: how many trials have begun; another share of the same canary begins none.
        why: the last change, in words.
        at: when, UTC; empty while it is as the catalog says.
    """

    production: str
    canary: Canary | None = None
    previous: str | None = None
    taken_back: str | None = None
    taken_back_why: str = ""
    trials: int = 0
    why: str = "as the catalog says"
    at: str = ""

    def as_json(self) -> dict[str, Any]:
        """The aliases as a JSON object."""
        return _adapter().dump_python(self, mode="json")

    @classmethod
    def from_json(cls, values: object) -> Aliases:
        """Read what ``as_json`` wrote.

        Raises:
            ValueError: the object is another one.
        """
        return _adapter().validate_python(values)


class AliasRow(NamedTuple):
    """Aliases, and the basis they were written on: see ``basis_of``."""

    basis: str
    aliases: Aliases


@cache
def _adapter() -> TypeAdapter[Aliases]:
    """Reads and writes aliases; built when first used, as most catalogs have no versions."""
    return TypeAdapter(Aliases)


def initial_aliases(versioned: Versioned) -> Aliases:
    """The aliases that a model begins with."""
    return Aliases(versioned.production, versioned.canary)


def initial_rows(catalog: Catalog) -> dict[str, AliasRow]:
    """The rows that the models of a catalog begin with, by model."""
    return {
        name: AliasRow(basis_of(catalog, name), initial_aliases(versioned))
        for name, versioned in catalog.versioned.items()
    }


def basis_of(catalog: Catalog, name: str) -> str:
    """A hash of what the catalog says of a model's versions and aliases."""
    versioned = catalog.versioned[name]
    facts = {
        "aliases": initial_aliases(versioned).as_json(),
        "models": {
            version: catalog.models[model_name(name, version)].model_dump(
                mode="json", include={"artifact", "runner", "placement"}
            )
            for version in versioned.versions
        },
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def incoming(old: Aliases, new: Aliases) -> set[str]:
    """The versions that a change brings in: as production, or as a canary of whatever share."""
    versions = {new.production} - {old.production}
    if new.canary is not None and new.canary != old.canary:
        versions.add(new.canary.version)
    return versions
