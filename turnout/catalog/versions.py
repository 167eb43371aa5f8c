"""Versions of one model side by side, and the aliases that say which of them answers.

A model with ``versions`` is written once and expanded, before anything else reads the catalog,
into plain models ``NAME@VERSION``: each has its own place in the pool, its own latency, breaker and
metrics. What is left of the name is a ``Versioned``: the versions it has, the one that is
``production``, and the ``canary`` on trial beside it, if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    model_validator,
)

from turnout.catalog.fields import Strict

if TYPE_CHECKING:
    from turnout.catalog.schema import Catalog

PRODUCTION, CANARY = "production", "canary"
ALIASES = (PRODUCTION, CANARY)
KEYS = frozenset({"versions", PRODUCTION, CANARY})
_SAME = frozenset({"task", "dimensions"})
_VERSION = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?$")

Raw = dict[str, Any]
Written = tuple[str, ...]


def _as_text(value: object) -> object:
    """YAML reads ``2`` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_version(value: str) -> str:
    if not _VERSION.match(value):
        raise ValueError(
            "use lower-case letters, digits, '.', '_' and '-' for a version, at most 32"
        )
    if value in ALIASES:
        raise ValueError(f"{value!r} is an alias and cannot be a version")
    return value


VersionId = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_version)]
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
        """The version that an alias, or its own id, means now; None when it means none."""
        if alias == PRODUCTION:
            return self.production
        if alias == CANARY:
            return None if self.canary is None else self.canary.version
        return alias if alias in self.versions else None


def check_alias(known: Versioned, alias: str, version: str) -> None:
    """Refuse an alias of a version that is not there.

    Raises:
        ValueError: says which there are.
    """
    if version not in known.versions:
        there = ", ".join(known.versions)
        raise ValueError(f"{alias}: there is no version {version!r}; there are {there}")


def model_name(name: str, version: str) -> str:
    """The plain model of a version."""
    return f"{name}@{version}"


def split(model: str) -> tuple[str, str | None]:
    """A plain model's name and its version; None for one without versions."""
    name, at, version = model.partition("@")
    return name, version if at else None


def known_as(model: str, names: Collection[str]) -> str | None:
    """How a model is called among what was learned: itself, or the name all its versions share."""
    if model in names:
        return model
    name = split(model)[0]
    return name if name in names else None


# -- from what is written to what is read ------------------------------------------------


def expand(data: object) -> object:
    """A catalog as written, with each version a model of its own.

    Raises:
        ValueError: one problem for each thing that cannot be expanded, ``key: what``.
    """
    if not isinstance(data, dict):
        return data
    raw = cast("Raw", data)
    models = raw.get("models")
    if not isinstance(models, dict):
        return raw
    problems = ["versioned: unknown key, remove it or check its spelling"] * ("versioned" in raw)
    expanded: Raw = {}
    versioned: dict[str, Raw] = {}
    for name, entry in cast("dict[Any, Any]", models).items():
        if "@" in str(name):
            problems.append(
                f"models.{name}: '@' comes before a version, which is listed under versions"
            )
        elif isinstance(entry, dict) and KEYS & entry.keys():
            found, known, wrong = _expand_one(name, cast("Raw", entry))
            problems += [f"models.{name}.{what}" for what in wrong]
            expanded |= found
            versioned[name] = known
        else:
            expanded[name] = entry
    routes = raw.get("routes")
    if versioned and isinstance(routes, dict):
        routes, wrong = _resolve(cast("Raw", routes), versioned)
        problems += wrong
    if problems:
        raise ValueError("; ".join(problems))
    return {**raw, "models": expanded, "routes": routes, "versioned": versioned}


def _expand_one(name: str, entry: Raw) -> tuple[Raw, Raw, list[str]]:
    """The models of one entry, its aliases, and what is wrong with it."""
    base = {key: value for key, value in entry.items() if key not in KEYS}
    versions = entry.get("versions")
    if not isinstance(versions, dict) or not versions:
        return {}, {}, ["versions: list at least one, such as '1': {}"]
    found: Raw = {}
    problems: list[str] = []
    for given, keys in cast("dict[object, object]", versions).items():
        version = _as_text(given)
        if not isinstance(version, str):
            problems.append(f"versions.{given}: put the version in quotes")
            continue
        own = cast("Raw", keys) if isinstance(keys, dict) else {}
        if keys is not None and not isinstance(keys, dict):
            problems.append(f"versions.{version}: give the keys in which it differs, or {{}}")
        problems += [
            f"versions.{version}.{key}: every version has the same, or callers would notice"
            for key in own
            if key in _SAME
        ]
        problems += [
            f"versions.{version}.{key}: belongs to the model, not to a version"
            for key in own
            if key in KEYS
        ]
        found[model_name(name, version)] = base | own
    ids = [split(model)[1] for model in found]
    production = _as_text(entry.get(PRODUCTION, ids[0] if len(ids) == 1 else None))
    if production is None:
        problems.append(f"{PRODUCTION}: is missing, say which version answers")
    known = {"versions": ids, PRODUCTION: production, CANARY: entry.get(CANARY)}
    return found, known, problems


def _resolve(routes: Raw, versioned: Mapping[str, Raw]) -> tuple[Raw, list[str]]:
    """Routes with the production version in place of each versioned name."""
    resolved: Raw = {}
    problems: list[str] = []
    for known in versioned.values():
        known["routes"], known["steady"] = [], []
    for route, entry in routes.items():
        names = cast("Raw", entry).get("candidates") if isinstance(entry, dict) else None
        resolved[route] = entry
        if not isinstance(names, list):
            continue
        taken: list[object] = []
        for given in cast("list[object]", names):
            name, alias = split(given) if isinstance(given, str) else ("", None)
            known = versioned.get(name)
            if known is None or alias not in (None, *ALIASES):
                taken.append(given)
                continue
            if alias == CANARY:
                problems.append(
                    f"routes.{route}.candidates: {given!r} may end at any time, name {name!r} "
                    "(production, with the canary's share) or one version"
                )
            known["routes" if alias is None else "steady"].append(route)
            taken.append(model_name(name, str(known.get(PRODUCTION))))
        problems += _mixed(route, cast("list[object]", names), versioned)
        resolved[route] = {**cast("Raw", entry), "candidates": taken}
    return resolved, problems


def _mixed(route: str, names: list[object], versioned: Mapping[str, Raw]) -> list[str]:
    """A model that a route names twice: by its name or alias, and by a version."""
    given = [split(each) for each in names if isinstance(each, str)]
    moving = {name for name, alias in given if name in versioned and alias in (None, *ALIASES)}
    return [
        f"routes.{route}.candidates: model {name!r} is named more than once, name it or versions"
        for name in sorted(moving)
        if sum(each == name for each, _ in given) > 1
    ]


def as_written(path: Written, lines: Mapping[Written, int]) -> Written:
    """Where an expanded catalog's key stands in the file: under the version, or under the model."""
    if path[:1] == ("versioned",) and path[:1] not in lines:
        return ("models", *path[1:])
    if path[:1] != ("models",) or len(path) < 2 or "@" not in path[1] or path[:2] in lines:
        return path
    name, version = split(path[1])
    own = ("models", name, "versions", str(version))
    if len(path) == 2 or (*own, path[2]) in lines:
        return (*own, *path[2:])
    return ("models", name, *path[2:])


def schema_extra(schema: Raw) -> None:
    """Add the keys that are expanded to the JSON Schema of a model, for editors."""
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


# -- moving an alias ---------------------------------------------------------------------


def realiased(catalog: Catalog, name: str, production: str, canary: Canary | None) -> Catalog:
    """The catalog with other aliases of one model; routes follow its production.

    Raises:
        ValueError: there is no such version, or production would be its own canary.
    """
    old = catalog.versioned[name]
    kept = old.model_dump() | {PRODUCTION: production, CANARY: canary}
    new = Versioned.model_validate(kept)
    was, now = model_name(name, old.production), model_name(name, new.production)
    routes = dict(catalog.routes)
    for route in (*old.routes, *old.steady):
        names = tuple(now if each == was else each for each in routes[route].candidates)
        routes[route] = routes[route].model_copy(update={"candidates": names})
    versioned = {**catalog.versioned, name: new}
    return catalog.model_copy(update={"routes": routes, "versioned": versioned})
