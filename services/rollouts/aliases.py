"""The aliases of one model, and the steps that move them. Pure.

The catalog says where a model's aliases begin. From then on the last word counts, whoever says it:
an operator, a trial, or somebody who edits what the catalog says of this model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from pydantic import ValidationError

from turnout.catalog import Canary, Catalog, Versioned, model_name
from turnout.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Aliases:
    """Where the aliases of a model are.

    Attributes:
        production: the version that answers to its name.
        canary: the version on trial; None when there is none.
        previous: production before the last promotion.
        taken_back: the last canary that was taken back, until another is tried or it is promoted.
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
        """Plain values."""
        return {
            "production": self.production,
            "canary": None if self.canary is None else self.canary.model_dump(mode="json"),
            "previous": self.previous,
            "taken_back": self.taken_back,
            "taken_back_why": self.taken_back_why,
            "trials": self.trials,
            "why": self.why,
            "at": self.at,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Aliases:
        """What ``as_json`` wrote.

        Raises:
            ValueError, TypeError, KeyError: it was something else.
        """
        canary = found["canary"]
        return cls(
            production=str(found["production"]),
            canary=None if canary is None else Canary.model_validate(canary),
            previous=found["previous"],
            taken_back=found["taken_back"],
            taken_back_why=str(found.get("taken_back_why", "")),
            trials=int(found["trials"]),
            why=str(found["why"]),
            at=str(found["at"]),
        )


Step: TypeAlias = Callable[[Aliases, Versioned], Aliases]
"""From where a model's aliases are to where they should be; the same object when that is where.

Raises ``InvalidRequest`` where there is no such step.
"""


def as_written(known: Versioned) -> Aliases:
    """Where a model's aliases begin."""
    return Aliases(known.production, known.canary)


def basis_of(catalog: Catalog, name: str) -> str:
    """What the catalog says of a model's versions and aliases, as a hash."""
    known = catalog.versioned[name]
    said = {
        "aliases": as_written(known).as_json(),
        "models": {
            version: catalog.models[model_name(name, version)].model_dump(
                mode="json", include={"artifact", "runner", "placement"}
            )
            for version in known.versions
        },
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def trying(version: str, share: float | None, by: str) -> Step:
    """Put a version on trial, or give the canary another share."""

    def step(aliases: Aliases, known: Versioned) -> Aliases:
        _check(known, version)
        if version == aliases.production:
            raise InvalidRequest(
                f"version {version!r} is production; try another version", param="version"
            )
        old = aliases.canary or known.canary or Canary(version=version)
        said = old.model_dump() | {"version": version}
        if share is not None:
            said["share"] = share
        try:
            canary = Canary.model_validate(said)
        except ValidationError as error:
            raise InvalidRequest(f"share: {error.errors()[0]['msg']}", param="share") from error
        goes_on = aliases.canary is not None and aliases.canary.version == version
        trials = aliases.trials + (not goes_on)
        why = f"version {version} is on trial with a share of {canary.share:.3g}: {by}"
        return replace(_forgiven(aliases), canary=canary, trials=trials, why=why)

    return step


def promoting(version: str | None, by: str) -> Step:
    """Make a version production; the canary when none is given."""

    def step(aliases: Aliases, known: Versioned) -> Aliases:
        canary = aliases.canary
        chosen = version or (None if canary is None else canary.version)
        if chosen is None:
            raise InvalidRequest("there is no canary to promote; name a version", param="version")
        _check(known, chosen)
        if chosen == aliases.production:
            raise InvalidRequest(f"version {chosen!r} is production already", param="version")
        if chosen == aliases.taken_back:
            aliases = _forgiven(aliases)
        return replace(
            aliases,
            production=chosen,
            previous=aliases.production,
            canary=None if canary is None or canary.version == chosen else canary,
            trials=aliases.trials + 1,
            why=f"version {chosen} took over from {aliases.production}: {by}",
        )

    return step


def rolling_back(by: str, *, production: bool = False) -> Step:
    """Take the canary back; without one, make the version before the last promotion production.

    Args:
        by: who asks.
        production: undo the promotion although a canary was taken back since. Whoever does not say
            so may have meant that canary, and been slower than its trial.
    """

    def step(aliases: Aliases, known: Versioned) -> Aliases:
        if aliases.canary is not None:
            return taken_back(aliases, by)
        if aliases.previous is None or aliases.previous not in known.versions:
            raise InvalidRequest(
                "there is nothing to roll back: no canary, and no version was promoted; "
                "`promote` names any version"
            )
        if aliases.taken_back is not None and not production:
            raise InvalidRequest(
                f"version {aliases.taken_back} is taken back already ({aliases.taken_back_why}); "
                f"to put version {aliases.previous} back in place of {aliases.production}, "
                "roll back with production (on the command line --production)",
                param="production",
            )
        why = f"version {aliases.previous} is back in place of {aliases.production}: {by}"
        return replace(aliases, production=aliases.previous, previous=None, why=why)

    return step


def taking_back(version: str, why: str) -> Step:
    """Take this version back if it still is the canary: somebody may have been faster."""

    def step(aliases: Aliases, known: Versioned) -> Aliases:
        del known
        canary = aliases.canary
        return aliases if canary is None or canary.version != version else taken_back(aliases, why)

    return step


def promoting_sound(version: str, why: str) -> Step:
    """Promote this version if it still is the canary."""

    def step(aliases: Aliases, known: Versioned) -> Aliases:
        canary = aliases.canary
        if canary is None or canary.version != version:
            return aliases
        return promoting(version, why)(aliases, known)

    return step


def coming_in(old: Aliases, new: Aliases) -> set[str]:
    """The versions that a step brings in: as production, or as a canary of whatever share."""
    found = {new.production} - {old.production}
    if new.canary is not None and new.canary != old.canary:
        found.add(new.canary.version)
    return found


def taken_back(aliases: Aliases, why: str) -> Aliases:
    """Without the canary."""
    version = None if aliases.canary is None else aliases.canary.version
    said = f"version {version} was taken back: {why}"
    return replace(aliases, canary=None, taken_back=version, taken_back_why=why, why=said)


def _forgiven(aliases: Aliases) -> Aliases:
    """Without a word of a canary that was taken back."""
    return replace(aliases, taken_back=None, taken_back_why="")


def _check(known: Versioned, version: str) -> None:
    if version not in known.versions:
        raise InvalidRequest(
            f"there is no version {version!r}; there are {', '.join(known.versions)}",
            param="version",
        )
