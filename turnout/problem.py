"""Readable messages for pydantic's validation errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPE_NAMES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda c: f"over {c['gt']}",
    "greater_than_equal": lambda c: f"at least {c['ge']}",
    "less_than": lambda c: f"under {c['lt']}",
    "less_than_equal": lambda c: f"at most {c['le']}",
    "literal_error": lambda c: str(c["expected"]),
    "enum": lambda c: str(c["expected"]),
    "string_too_long": lambda c: f"text of at most {c['max_length']} characters",
    "string_too_short": lambda c: f"text of at least {c['min_length']} characters",
    "string_pattern_mismatch": lambda c: f"text like {c['pattern']}",
}


def problem_text(*items: Mapping[str, Any]) -> str:
    """Describe what is wrong with one value, without its name: ``must be text``.

    ``items`` are a ``ValidationError``'s errors about it, one for each type that it may have;
    those of other types are left out where one fits.
    """
    fitting = [item for item in items if not str(item["type"]).endswith("_type")] or items
    first, *others = dict.fromkeys(_rule(item) for item in fitting)
    rules = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    value = fitting[0].get("input")
    if fitting[0]["type"] == "extra_forbidden" or not isinstance(value, str | int | float):
        return rules
    return f"{rules} (got {value!r})"


def _rule(item: Mapping[str, Any]) -> str:
    kind, context = str(item["type"]), item.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key; remove it or check its spelling"
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return f"must hold at least {context['min_length']}, and holds {context['actual_length']}"
    if kind == "too_long":
        return f"must hold at most {context['max_length']}, and holds {context['actual_length']}"
    if kind == "value_error":
        return str(context["error"])
    if kind in _TYPE_NAMES:
        return f"must be {_TYPE_NAMES[kind]}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind](context)}"
    return str(item["msg"]).replace("Input should", "must", 1)
