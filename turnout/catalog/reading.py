"""Reading a catalog: YAML to ``Catalog``, every problem as ``file:line: key: what``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import yaml
from pydantic import ValidationError

from turnout.catalog.catalog import Catalog
from turnout.catalog.expansion import as_written
from turnout.errors import CatalogInvalid
from turnout.problem import problem_text

Path_ = tuple[str, ...]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader where it is built in: it takes a tenth of the time at every start."""


def load(path: Path) -> Catalog:
    """Read and check a catalog file.

    Raises:
        CatalogInvalid: the file is missing, is not YAML, or breaks the schema; one problem a line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogInvalid([f"{path}: cannot be read: {error}"]) from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Catalog:
    """Check catalog text; ``name`` stands for the file in messages.

    Raises:
        CatalogInvalid: the text is not YAML, or breaks the schema; one problem a line.
    """
    try:
        root = cast("yaml.Node | None", yaml.compose(text, Loader=_LOADER))  # pyright: ignore[reportUnknownMemberType]
        data = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise CatalogInvalid([f"{name}:{line}: not valid YAML: {problem}"]) from error
    if root is None or not isinstance(data, dict):
        raise CatalogInvalid([f"{name}:1: expected the keys version, classes, models and routes"])
    lines: dict[Path_, int] = {}
    problems = [f"{name}:{line}: {key}: is given twice" for line, key in _walk(root, (), lines)]
    if problems:
        raise CatalogInvalid(problems)
    try:
        return Catalog.model_validate(data)
    except ValidationError as error:
        raise CatalogInvalid(_problems(error, name, lines)) from error


def json_schema() -> str:
    """Return the catalog's JSON Schema, for editors."""
    return json.dumps(Catalog.model_json_schema(), indent=2) + "\n"


def _walk(node: yaml.Node, at: Path_, lines: dict[Path_, int]) -> Iterator[tuple[int, str]]:
    """Record the line of every key under ``node``; yield keys that are given twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*at, str(key.value))
            if path in lines:
                yield key.start_mark.line + 1, ".".join(path)
            lines[path] = key.start_mark.line + 1
            yield from _walk(value, path, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*at, str(index))
            lines[path] = value.start_mark.line + 1
            yield from _walk(value, path, lines)


def _problems(error: ValidationError, name: str, lines: dict[Path_, int]) -> list[str]:
    problems: list[str] = []
    for item in error.errors(include_url=False):
        path = as_written(tuple(str(part) for part in item["loc"]), lines)
        if not path and item["type"] == "value_error":
            problems += [_dangling(text, name, lines) for text in problem_text(item).split("; ")]
            continue
        problems.append(f"{name}:{_line(path, lines)}: {_shown(path, lines)}: {problem_text(item)}")
    return list(dict.fromkeys(problems))


def _dangling(text: str, name: str, lines: dict[Path_, int]) -> str:
    key, colon, problem = text.partition(":")
    path = as_written(_parted(key.split("."), lines), lines)
    return f"{name}:{_line(path, lines)}: {'.'.join(path)}{colon}{problem}"


def _parted(words: list[str], lines: dict[Path_, int]) -> Path_:
    """Split a dotted key into a path; names may contain dots themselves."""
    path: Path_ = ()
    while words:
        for end in range(len(words), 0, -1):
            longer: Path_ = (*path, ".".join(words[:end]))
            if end == 1 or as_written(longer, lines) in lines:
                path, words = longer, words[end:]
                break
    return path


def _line(path: Path_, lines: dict[Path_, int]) -> int:
    """Return the line of the deepest written part of ``path`` (pydantic adds union tags)."""
    deepest: Path_ = ()
    for part in path:
        if (*deepest, part) in lines:
            deepest = (*deepest, part)
    return lines.get(deepest, 1)


def _shown(path: Path_, lines: dict[Path_, int]) -> str:
    """Return ``path`` without the parts pydantic adds: union tags, ``[key]``, names of types."""
    written: Path_ = ()
    for index, part in enumerate(path):
        last = index == len(path) - 1
        if (*written, part) in lines or (last and part.isidentifier() and part.islower()):
            written = (*written, part)
    return ".".join(written) or "catalog"
