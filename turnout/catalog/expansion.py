"""Expansion of the catalog's models with versions into plain models, one a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from turnout.catalog.versions import (
    ALIASES,
    CANARY,
    KEYS,
    PRODUCTION,
    as_text,
    model_name,
    split,
)

Raw = dict[str, Any]
Written = tuple[str, ...]
_SAME = frozenset({"task", "dimensions"})


def expand(data: object) -> object:
    """Return a catalog, as read from YAML, with each version as a model of its own.

    Raises:
        ValueError: the problems of all entries that cannot be expanded, ``key: problem`` each.
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
            plain, aliases, errors = _expand_one(name, cast("Raw", entry))
            problems += [f"models.{name}.{error}" for error in errors]
            expanded |= plain
            versioned[name] = aliases
        else:
            expanded[name] = entry
    routes = raw.get("routes")
    if versioned and isinstance(routes, dict):
        routes, errors = _resolve(cast("Raw", routes), versioned)
        problems += errors
    if problems:
        raise ValueError("; ".join(problems))
    return {**raw, "models": expanded, "routes": routes, "versioned": versioned}


def _expand_one(name: str, entry: Raw) -> tuple[Raw, Raw, list[str]]:
    """Return the models of one entry, its aliases, and its problems."""
    base = {key: value for key, value in entry.items() if key not in KEYS}
    versions = entry.get("versions")
    if not isinstance(versions, dict) or not versions:
        return {}, {}, ["versions: list at least one, such as '1': {}"]
    plain: Raw = {}
    problems: list[str] = []
    for label, keys in cast("dict[object, object]", versions).items():
        version = as_text(label)
        if not isinstance(version, str):
            problems.append(f"versions.{label}: put the version in quotes")
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
        plain[model_name(name, version)] = base | own
    ids = [split(model)[1] for model in plain]
    production = as_text(entry.get(PRODUCTION, ids[0] if len(ids) == 1 else None))
    if production is None:
        problems.append(f"{PRODUCTION}: is missing, say which version answers")
    aliases = {"versions": ids, PRODUCTION: production, CANARY: entry.get(CANARY)}
    return plain, aliases, problems


def _resolve(routes: Raw, versioned: Mapping[str, Raw]) -> tuple[Raw, list[str]]:
    """Replace each versioned name in the routes by its production version."""
    resolved: Raw = {}
    problems: list[str] = []
    for aliases in versioned.values():
        aliases["routes"], aliases["steady"] = [], []
    for route, entry in routes.items():
        names = cast("Raw", entry).get("candidates") if isinstance(entry, dict) else None
        resolved[route] = entry
        if not isinstance(names, list):
            continue
        candidates: list[object] = []
        for candidate in cast("list[object]", names):
            name, alias = split(candidate) if isinstance(candidate, str) else ("", None)
            aliases = versioned.get(name)
            if aliases is None or alias not in (None, *ALIASES):
                candidates.append(candidate)
                continue
            if alias == CANARY:
                problems.append(
                    f"routes.{route}.candidates: {candidate!r} may end at any time, name {name!r} "
                    "(production, with the canary's share) or one version"
                )
            aliases["routes" if alias is None else "steady"].append(route)
            candidates.append(model_name(name, str(aliases.get(PRODUCTION))))
        problems += _mixed(route, cast("list[object]", names), versioned)
        resolved[route] = {**cast("Raw", entry), "candidates": candidates}
    return resolved, problems


def _mixed(route: str, names: list[object], versioned: Mapping[str, Raw]) -> list[str]:
    """Return a line for each model that a route names both by name or alias and by version."""
    parts = [split(each) for each in names if isinstance(each, str)]
    moving = {name for name, alias in parts if name in versioned and alias in (None, *ALIASES)}
    return [
        f"routes.{route}.candidates: model {name!r} is named more than once, name it or versions"
        for name in sorted(moving)
        if sum(each == name for each, _ in parts) > 1
    ]


def as_written(path: Written, lines: Mapping[Written, int]) -> Written:
    """Return the path in the file of an expanded key: under the version, or under the model."""
    if path[:1] == ("versioned",) and path[:1] not in lines:
        return ("models", *path[1:])
    if path[:1] != ("models",) or len(path) < 2 or "@" not in path[1] or path[:2] in lines:
        return path
    name, version = split(path[1])
    own = ("models", name, "versions", str(version))
    if len(path) == 2 or (*own, path[2]) in lines:
        return (*own, *path[2:])
    return ("models", name, *path[2:])
