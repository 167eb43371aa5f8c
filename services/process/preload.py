"""Preparations before numpy is imported, so that its import takes less of the start.

Large shared libraries are mapped while the interpreter is busy with Python's own imports.

``import`` opens an extension module while it holds the interpreter's lock, and relocating
onnxruntime takes 20 ms. A foreign call gives the lock up, so a thread that opens the same file
first does that work on another core; the import then finds it in place.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from types import ModuleType

LIBRARIES = (
    ("numpy", "_core/_multiarray_umath"),
    ("onnxruntime", "capi/onnxruntime_pybind11_state"),
)
"""Package, and the extension module inside it, in the order they are imported."""

_DOCSTRINGS = ("numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars")


def preload(libraries: Sequence[tuple[str, str]] = LIBRARIES) -> None:
    """Open these libraries in the background. Does nothing where they, or dlopen, are absent."""
    process = ctypes.CDLL(None)
    if not hasattr(process, "dlopen"):
        return
    paths = [path for library in libraries if (path := _path_of(*library)) is not None]

    def open_all() -> None:
        for path in paths:
            process.dlopen(path.encode(), os.RTLD_NOW)

    _thread.start_new_thread(open_all, ())


def leave_out_docstrings() -> None:
    """Keep numpy from attaching docstrings to its C functions, which takes 5 ms."""
    for name in _DOCSTRINGS:
        sys.modules.setdefault(name, ModuleType(name))


def _path_of(package: str, module: str) -> str | None:
    spec = PathFinder.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = f"{folder}/{module}{EXTENSION_SUFFIXES[0]}"
        if os.access(path, os.R_OK):
            return path
    return None
