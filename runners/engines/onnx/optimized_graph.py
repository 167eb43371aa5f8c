"""Optimise a model's graph for this machine and save it where ``graph_cache`` looks it up."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from runners.engines.onnx.declared import declared_inputs
from runners.engines.onnx.graph_cache import GRAPH, KEY, graph_key
from turnout.errors import LoadFailed

_WEIGHTS = "weights.bin"
_MIN_BYTES = 1024  # smaller initialisers stay in the graph, where shape inference needs them
_TOLERANCE = 1e-4


def save_graph(name: str, model: Path, folder: Path) -> None:
    """Optimise a model for this processor and save the result in ``folder``.

    The folder appears complete or not at all, so that processes starting beside this one never
    read half a graph.

    Raises:
        LoadFailed: onnxruntime cannot optimise it, or the result answers differently.
        OSError: the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        _optimise(name, model, fresh / GRAPH)
        largest = _difference(model, fresh / GRAPH)
        if not largest <= _TOLERANCE:
            raise LoadFailed(name, f"its optimised graph answers differently, by {largest:.3g}")
        (fresh / KEY).write_text(json.dumps(graph_key(model)), "utf-8")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)


def _optimise(name: str, model: Path, graph: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(graph)
    for key, value in (("file_name", _WEIGHTS), ("min_size_in_bytes", str(_MIN_BYTES))):
        options.add_session_config_entry(
            f"session.optimized_model_external_initializers_{key}", value
        )
    # In the layout this processor multiplies fastest: otherwise each session packs its own copy.
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    try:
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime raises a class of its own for each status.
        raise LoadFailed(name, f"onnxruntime cannot optimise {model}: {error}") from error


def _difference(model: Path, graph: Path) -> float:
    """Return the largest absolute difference of an output, on seeded noise (integers: 0 and 1)."""
    sessions = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in (model, graph)
    ]
    random = np.random.default_rng(0)
    inputs = {
        entry.name: random.uniform(-1, 1, [size or 4 for size in entry.shape]).astype(entry.dtype)
        if entry.dtype.startswith("float")
        else random.integers(0, 2, [size or 4 for size in entry.shape]).astype(entry.dtype)
        for entry in declared_inputs(sessions[0])
    }
    expected, actual = (session.run(None, inputs) for session in sessions)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max())
        for a, b in zip(expected, actual, strict=True)
    )
