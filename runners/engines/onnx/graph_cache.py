"""Look up the optimised graph of a model that was saved on this machine.

ONNX Runtime spends most of a session's start on rewriting the graph for this processor and on
copying weights out of the model's file. ``optimized_graph`` does both once: it saves the
rewritten graph with its weights in a file of their own, which later sessions map instead of
copying. A graph is valid for one model file, one version of onnxruntime and one kind of processor;
any other is not used.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.cache_folder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

GRAPH = "graph.onnx"
KEY = "made-for.json"
_CPUINFO = Path("/proc/cpuinfo")


def graph_folder(name: str) -> Path:
    """Return the folder of a model's graph, below the cache folder."""
    return cache_folder() / "graphs" / name


def mapped_folder(model: Path) -> Path:
    """Return the folder of the graph of a file in the model store, by artefact and version."""
    version = model.parent
    return graph_folder(f"{version.parent.name}-{version.name}")


def saved_graph(model: Path, folder: Path) -> Path | None:
    """Return the graph saved for this model on this machine; None when none is valid."""
    try:
        key = json.loads((folder / KEY).read_text("utf-8"))
        return folder / GRAPH if key == graph_key(model) else None
    except (OSError, ValueError):
        return None


def mapped_graph(model: Path) -> Path | None:
    """Return the graph saved for a file in the model store; None when none is valid."""
    return saved_graph(model, mapped_folder(model))


def graph_key(model: Path) -> Mapping[str, Any]:
    """Return the key of a saved graph; the processor's features decide the weights' layout."""
    import onnxruntime  # by a load, not with this module: see ``session``

    stat = model.stat()
    return {
        "onnxruntime": onnxruntime.__version__,
        "weights": "prepacked",
        "processor": _processor(),
        "model_bytes": stat.st_size,
        "model_changed_s": int(stat.st_mtime),
    }


def _processor() -> str:
    """Return this processor's features as the kernel lists them; elsewhere its architecture."""
    try:
        with _CPUINFO.open(encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine
