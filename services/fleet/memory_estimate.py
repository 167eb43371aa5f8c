"""Estimates of a model's memory, from the catalog or the size of its files."""

from __future__ import annotations

from pathlib import Path

from runners.engines.onnx.graph_cache import mapped_graph
from runners.engines.onnx.session import FILE
from runners.pool import Footprint
from services.artifacts.store import files_of, resolve
from turnout.catalog import Model
from turnout.errors import ArtifactInvalid

_MIN_BYTES = 1024**2
# Measured with ONNX Runtime 1.32 on the default catalog's models: a session takes 1.0 to 1.1 times
# its file, and up to twice the file more while that is read and the graph is optimised. A session
# over a saved graph maps its weights: nothing is taken twice.
_RESIDENT, _READING, _MAPPING = 1.1, 2.0, 0.1
_OF_OTHER_ENGINES = {"onnx": (".pt2",), "torch": (".onnx",)}
"""Endings of files that belong to other engines, by engine."""


def footprint(name: str, model: Model) -> Footprint:
    """Estimate the memory of a model, until it is measured."""
    if model.artifact is None:
        return Footprint(model.memory)
    try:
        folder = resolve(model.artifact)
    except ArtifactInvalid:
        return Footprint(model.memory)
    file_bytes = sum((folder / file).stat().st_size for file in _engine_files(model, folder))
    reading = _MAPPING if _is_mapped(model, folder) else _READING
    resident = model.memory if model.knows_memory else int(_RESIDENT * file_bytes) + _MIN_BYTES
    return Footprint(resident, int(reading * file_bytes) + _MIN_BYTES)


def _engine_files(model: Model, folder: Path) -> list[str]:
    """Return the files this engine reads; a folder may hold weights for several engines."""
    foreign = _OF_OTHER_ENGINES.get(model.runner.engine, ())
    return [name for name in files_of(folder) if not name.endswith(foreign)]


def _is_mapped(model: Model, folder: Path) -> bool:
    if model.runner.engine != "onnx":
        return False
    path = folder / FILE
    return path.is_file() and mapped_graph(path) is not None
