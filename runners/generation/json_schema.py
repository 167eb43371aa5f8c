"""Checks whether answers can be constrained to a JSON Schema, and locates what prevents it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher

from turnout.errors import InvalidRequest

MAX_SCHEMA_CHARS = 64 * 1024
_MAX_TRIED = 200
_DEFINITIONS = ("$defs", "definitions")
_WHERE = "response_format.json_schema.schema"


def check_schema(schema: str) -> None:
    """Refuse a schema that llguidance does not support.

    Raises:
        InvalidRequest: names the place in it and the problem there.
    """
    if len(schema) > MAX_SCHEMA_CHARS:
        raise InvalidRequest(
            f"{_WHERE} takes {len(schema)} characters; at most {MAX_SCHEMA_CHARS} are taken",
            param=_WHERE,
        )
    document = json.loads(schema)
    if not isinstance(document, dict):
        raise InvalidRequest(f"{_WHERE} must be an object", param=_WHERE)
    problem = _problem(schema)
    if problem is None:
        return
    where = ".".join((_WHERE, *_deepest(document, problem)))
    raise InvalidRequest(f"{where}: {problem}", param=where)


def _problem(schema: str) -> str | None:
    grammar = LLMatcher.grammar_from_json_schema(schema)
    refused, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    return messages[0].splitlines()[-1] if refused else None


def _deepest(schema: Any, problem: str) -> tuple[str, ...]:
    """Return the path of the innermost part of a schema that has the same problem alone."""
    shared = {key: schema[key] for key in _DEFINITIONS if key in schema}
    deepest: tuple[str, ...] = ()
    tried: set[tuple[str, ...]] = set()
    part = schema
    while True:
        for place, inner in _parts(part, schema):
            path = place if place[0] in _DEFINITIONS else (*deepest, *place)
            if path in tried or len(tried) == _MAX_TRIED:
                continue
            tried.add(path)
            if _problem(json.dumps({**shared, **inner})) == problem:
                deepest, part = path, inner
                break
        else:
            return deepest


def _parts(schema: Any, root: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the schemas directly inside a schema, and its references, with their paths."""
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            named = value.items() if isinstance(value, dict) else ()
            yield from (((key, name), inner) for name, inner in named if isinstance(inner, dict))
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            yield (key,), value
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            listed = enumerate(value)
            yield from (((key, str(i)), inner) for i, inner in listed if isinstance(inner, dict))
        elif key == "$ref" and isinstance(value, str):
            place = tuple(value.removeprefix("#/").split("/"))
            shared = root.get(place[0])
            target = shared.get(place[-1]) if isinstance(shared, dict) and len(place) == 2 else None
            if isinstance(target, dict):
                yield place, target
