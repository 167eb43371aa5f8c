"""What pydantic found wrong with a value, in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_A_KIND = {
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
_A_BOUND: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
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


def said_of(*items: Mapping[str, Any]) -> str:
    """Errors of a ``ValidationError`` about one value, without its name: ``must be text``.

    Several are what each of the types that the value may have says of it; one whose kind fits
    speaks for all.
    """
    fitting = [item for item in items if not str(item["type"]).endswith("_type")] or items
    first, *others = dict.fromkeys(_rule(item) for item in fitting)
    said = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    given = fitting[0].get("input")
    told = fitting[0]["type"] != "extra_forbidden" and isinstance(given, str | int | float | bool)
    return f"{said} (got {given!r})" if told else said


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
    if kind in _A_KIND:
        return f"must be {_A_KIND[kind]}"
    if kind in _A_BOUND:
        return f"must be {_A_BOUND[kind](context)}"
    return str(item["msg"]).replace("Input should", "must", 1)
