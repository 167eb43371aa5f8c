"""Read the sentences that embedding models are judged on.

The user names a text file with one sentence per line, or a folder of such files. Without one, the
docstrings of Python's standard library are used: they are English and on every machine.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runners.optimize.input_types import Inputs, bytes_column
from runners.optimize.optimization import Report
from turnout.errors import DataError

_MIN_CHARACTERS, _MAX_CHARACTERS = 20, 2000
_DEFAULT_COUNT = 1200
_PACKAGES = ("", "asyncio", "concurrent/futures", "email", "http", "json", "logging", "unittest")


def read(place: Path) -> Inputs:
    """Return the lines of a file, or of every .txt file of a folder."""
    paths = [place] if place.is_file() else sorted(place.glob("*.txt"))
    lines: list[str] = []
    for path in paths:
        try:
            lines += path.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text: {error}; convert it") from error
    sentences = [line.strip()[:_MAX_CHARACTERS] for line in lines if line.strip()]
    if not sentences:
        raise DataError(f"{place} holds no line of text (name a .txt file, one sentence a line)")
    return _inputs(sentences, f"{len(sentences)} sentences given by the user")


def default(report: Report) -> Inputs:
    """Return docstrings of the standard library's functions and classes."""
    sentences = sorted(set(_docstrings()))
    np.random.default_rng(0).shuffle(sentences)
    sentences = sentences[:_DEFAULT_COUNT]
    return _inputs(sentences, f"{len(sentences)} docstrings of Python's standard library")


def _docstrings() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    for package in _PACKAGES:
        for path in sorted((root / package).glob("*.py")):
            try:
                tree = ast.parse(path.read_text("utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    text = " ".join((ast.get_docstring(node) or "").split())
                    if len(text) >= _MIN_CHARACTERS:
                        yield text[:_MAX_CHARACTERS]


def _inputs(lines: list[str], origin: str) -> Inputs:
    column = bytes_column([line.encode() for line in lines])
    return Inputs({"text": column}, None, np.arange(len(lines)), origin)
