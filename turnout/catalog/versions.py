"""Versions of one model side by side, and the aliases that say which of them answers.

A model with ``versions`` is written once and expanded, before anything else reads the catalog,
into plain models ``NAME@VERSION``: each has its own place in the pool, its own latency, breaker and
metrics. What is left of the name is a ``Versioned``: the versions it has, the one that is
``production``, and the ``canary`` on trial beside it, if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    model_validator,
)

from turnout.catalog.fields import Strict

PRODUCTION, CANARY = "production", "canary"
ALIASES = (PRODUCTION, CANARY)
KEYS = frozenset({"versions", PRODUCTION, CANARY})
_VERSION = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?$")

Raw = dict[str, Any]


def as_text(value: object) -> object:
    """Return a version as text: YAML reads ``2`` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_version(value: str) -> str:
    if not _VERSION.match(value):
        raise ValueError(
            "use lower-case letters, digits, '.', '_' and '-' for a version, at most 32"
        )
    if value in ALIASES:
        raise ValueError(f"{value!r} is an alias and cannot be a version")
    return value


VersionId = Annotated[str, BeforeValidator(as_text), AfterValidator(_check_version)]
Margin = Annotated[float, Field(ge=0.0, lt=1.0)]


class Rollback(Strict):
    """How much worse than production a canary may be; one shown to be worse is taken back.

    Attributes:
        failed: more of its requests may fail, as a share: errors, NaN, hangs.
        late: more of them may miss their deadline, as a share.
        slower: times production's p95 that an answer may take before it counts as slow.
        slow: more of its answers may be slow, as a share.
        unhappy: how much lower the mean score of its feedback may be.
        false_alarm: probability that one which keeps all of these is taken back, ever.
    """

    failed: Margin = 0.02
    late: Margin = 0.02
    slower: Annotated[float, Field(ge=1.0)] = 2.0
    slow: Margin = 0.05
    unhappy: Margin = 0.05
    false_alarm: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05


class Canary(Strict):
    """A version on trial beside production.

    Attributes:
        version: which.
        share: of the requests that production would answer, those it answers instead.
        rollback: how much worse it may be.
        promote_after: so many of its requests, and once it is shown to be no worse, it becomes
            production by itself; None leaves that to a person.
    """

    version: VersionId
    share: Annotated[float, Field(gt=0.0, le=0.5)] = 0.05
    rollback: Rollback = Rollback()
    promote_after: PositiveInt | None = None


class Versioned(Strict):
    """The versions of one model and its aliases.

    Attributes:
        versions: their ids, as the catalog lists them.
        production: the one that answers to the model's name.
        canary: the one on trial, if there is one.
        routes: the routes that name the model, and so take part in the trial.
        steady: those that name ``NAME@production``, and don't.
    """

    versions: tuple[VersionId, ...]
    production: VersionId
    canary: Canary | None = None
    routes: tuple[str, ...] = ()
    steady: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _aliases_are_versions(self) -> Versioned:
        check_alias(self, PRODUCTION, self.production)
        if self.canary is not None:
            check_alias(self, f"{CANARY}.version", self.canary.version)
            if self.canary.version == self.production:
                raise ValueError(
                    f"canary.version: version {self.production!r} is production already"
                )
        return self

    def version_of(self, alias: str) -> str | None:
        """Return the version that an alias or a version id means now; None when it means none."""
        if alias == PRODUCTION:
            return self.production
        if alias == CANARY:
            return None if self.canary is None else self.canary.version
        return alias if alias in self.versions else None


def check_alias(versioned: Versioned, alias: str, version: str) -> None:
    """Check that an alias names an existing version.

    Raises:
        ValueError: the model has no such version.
    """
    if version not in versioned.versions:
        existing = ", ".join(versioned.versions)
        raise ValueError(f"{alias}: there is no version {version!r}; there are {existing}")


def model_name(name: str, version: str) -> str:
    """Return the name of a version's plain model."""
    return f"{name}@{version}"


def split(model: str) -> tuple[str, str | None]:
    """Split a plain model's name into name and version; None for one without versions."""
    name, at, version = model.partition("@")
    return name, version if at else None


def trained_name(model: str, names: Collection[str]) -> str | None:
    """Return the model's name among trained ``names``: its own, or the one its versions share."""
    if model in names:
        return model
    name = split(model)[0]
    return name if name in names else None


def schema_extra(schema: Raw) -> None:
    """Add the keys of versioned models to the JSON Schema of a model, for editors."""
    canary = Canary.model_json_schema(ref_template="#/$defs/{model}")
    canary.pop("$defs", None)
    canary["properties"]["rollback"] = Rollback.model_json_schema()
    version = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    schema["properties"] |= {
        "versions": {
            "type": "object",
            "description": "Versions side by side: the keys in which each differs.",
            "additionalProperties": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        },
        PRODUCTION: version | {"description": "The version that answers to the model's name."},
        CANARY: canary,
    }
