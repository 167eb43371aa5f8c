"""Models with versions as written in YAML, expanded into the plain models that are read."""

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
        version = as_text(given)
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
    production = as_text(entry.get(PRODUCTION, ids[0] if len(ids) == 1 else None))
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
