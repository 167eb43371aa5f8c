"""The steps that change the aliases of one model. Pure.

    no canary ──try_version──► canary on trial ──promote──► canary is production
        ▲                            │                             │
        ├───────── roll_back ────────┘                             │
        └───────────────── roll_back (to the previous version) ────┘

A trial takes the same steps by itself: ``reject_canary`` and ``promote_canary`` do nothing where an
operator has changed the canary meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from pydantic import ValidationError

from services.rollouts.aliases import Aliases
from turnout.catalog import Canary, Versioned
from turnout.errors import InvalidRequest

Step: TypeAlias = Callable[[Aliases, Versioned], Aliases]
"""From the present aliases of a model to the next; the same object where nothing changes.

Raises ``InvalidRequest`` where there is no such step.
"""


def try_version(version: str, share: float | None, by: str) -> Step:
    """Put a version on trial, or give the canary another share."""

    def step(aliases: Aliases, versioned: Versioned) -> Aliases:
        _check(versioned, version)
        if version == aliases.production:
            raise InvalidRequest(
                f"version {version!r} is production; try another version", param="version"
            )
        canary = _canary(aliases.canary or versioned.canary, version, share)
        continues = aliases.canary is not None and aliases.canary.version == version
        return replace(
            aliases,
            canary=canary,
            taken_back=None,
            taken_back_why="",
            trials=aliases.trials + (not continues),
            why=f"version {version} is on trial with a share of {canary.share:.3g}: {by}",
        )

    return step


def promote(version: str | None, by: str) -> Step:
    """Make a version production; the canary when none is named."""

    def step(aliases: Aliases, versioned: Versioned) -> Aliases:
        canary = aliases.canary
        chosen = version or (None if canary is None else canary.version)
        if chosen is None:
            raise InvalidRequest("there is no canary to promote; name a version", param="version")
        _check(versioned, chosen)
        if chosen == aliases.production:
            raise InvalidRequest(f"version {chosen!r} is production already", param="version")
        if chosen == aliases.taken_back:
            aliases = replace(aliases, taken_back=None, taken_back_why="")
        return replace(
            aliases,
            production=chosen,
            previous=aliases.production,
            canary=None if canary is None or canary.version == chosen else canary,
            trials=aliases.trials + 1,
            why=f"version {chosen} took over from {aliases.production}: {by}",
        )

    return step


def roll_back(by: str, *, production: bool = False) -> Step:
    """Reject the canary; without one, make the version before the last promotion production.

    Args:
        by: the caller.
        production: undo the promotion although a canary was rejected since. A caller that leaves it
            out may have meant that canary, and been slower than its trial.
    """

    def step(aliases: Aliases, versioned: Versioned) -> Aliases:
        if aliases.canary is not None:
            return _without_canary(aliases, aliases.canary.version, by)
        previous = aliases.previous
        if previous is None or previous not in versioned.versions:
            raise InvalidRequest(
                "there is nothing to roll back: no canary, and no version was promoted; "
                "`promote` names any version"
            )
        if aliases.taken_back is not None and not production:
            raise InvalidRequest(
                f"version {aliases.taken_back} is taken back already ({aliases.taken_back_why}); "
                f"to put version {previous} back in place of {aliases.production}, "
                "roll back with production (on the command line --production)",
                param="production",
            )
        why = f"version {previous} is back in place of {aliases.production}: {by}"
        return replace(aliases, production=previous, previous=None, why=why)

    return step


def reject_canary(version: str, why: str) -> Step:
    """End the trial of this version if it still is the canary."""

    def step(aliases: Aliases, versioned: Versioned) -> Aliases:
        is_canary = aliases.canary is not None and aliases.canary.version == version
        return _without_canary(aliases, version, why) if is_canary else aliases

    return step


def promote_canary(version: str, why: str) -> Step:
    """Promote this version if it still is the canary."""

    def step(aliases: Aliases, versioned: Versioned) -> Aliases:
        is_canary = aliases.canary is not None and aliases.canary.version == version
        return promote(version, why)(aliases, versioned) if is_canary else aliases

    return step


def _canary(pattern: Canary | None, version: str, share: float | None) -> Canary:
    """A canary with the rules of another one.

    Raises:
        InvalidRequest: the share is out of range.
    """
    values = (pattern or Canary(version=version)).model_dump() | {"version": version}
    if share is not None:
        values["share"] = share
    try:
        return Canary.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(f"share: {error.errors()[0]['msg']}", param="share") from error


def _without_canary(aliases: Aliases, version: str, why: str) -> Aliases:
    change = f"version {version} was taken back: {why}"
    return replace(aliases, canary=None, taken_back=version, taken_back_why=why, why=change)


def _check(versioned: Versioned, version: str) -> None:
    if version not in versioned.versions:
        raise InvalidRequest(
            f"there is no version {version!r}; there are {', '.join(versioned.versions)}",
            param="version",
        )
