"""An optimised graph kept on the machine that will run it.

ONNX Runtime spends most of a session's start on rewriting the graph for this processor and on
copying weights out of the model's file. Both are done once here: the rewritten graph is saved
with its weights in a file of their own, which later sessions map instead of copying. It is
valid for one model file, one version of onnxruntime and one kind of processor; anything else is
not used.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "TURNOUT_CACHE"
_GRAPH = "graph.onnx"
_WEIGHTS = "weights.bin"
_MADE_FOR = "made-for.json"
_MIN_BYTES = 1024  # smaller initialisers stay in the graph, where shape inference needs them
_TOLERANCE = 1e-4
_CPUINFO = Path("/proc/cpuinfo")


def cache_folder(name: str) -> Path:
    """Where a model's graph is kept.

    Below ``$TURNOUT_CACHE``, else ``$XDG_CACHE_HOME/turnout``, else ``~/.cache/turnout``.
    """
    if given := os.environ.get(FOLDER):
        return Path(given) / "graphs" / name
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "turnout" / "graphs" / name


def mapped_folder(model: Path) -> Path:
    """Where the graph of a file in the model store is kept: by artefact and version."""
    version = model.parent
    return cache_folder(f"{version.parent.name}-{version.name}")


def saved_graph(model: Path, folder: Path) -> Path | None:
    """The graph saved for this model on this machine; None when there is none to use."""
    try:
        made_for = json.loads((folder / _MADE_FOR).read_text("utf-8"))
        return folder / _GRAPH if made_for == _key(model) else None
    except (OSError, ValueError):
        return None


def save_graph(name: str, model: Path, folder: Path) -> None:
    """Optimise a model for this processor and keep the result in ``folder``.

    The folder appears complete or not at all, so that processes starting beside this one never
    read half a graph.

    Raises:
        LoadFailed: onnxruntime cannot optimise it, or the result answers differently.
        OSError: the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    import tempfile  # only to save a graph, which a start in a blink does not

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        _optimise(name, model, made / _GRAPH)
        largest = _difference(model, made / _GRAPH)
        if not largest <= _TOLERANCE:
            raise LoadFailed(name, f"its optimised graph answers differently, by {largest:.3g}")
        (made / _MADE_FOR).write_text(json.dumps(_key(model)), "utf-8")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        made.rename(folder)


def _key(model: Path) -> Mapping[str, Any]:
    """What a saved graph depends on. The processor's features decide the layout of weights."""
    import onnxruntime

    stat = model.stat()
    return {
        "onnxruntime": onnxruntime.__version__,
        "weights": "prepacked",
        "processor": _processor(),
        "model_bytes": stat.st_size,
        "model_changed_s": int(stat.st_mtime),
    }


def _processor() -> str:
    """The features of this processor, as the kernel lists them; its kind where it does not."""
    try:
        with _CPUINFO.open(encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine


def _optimise(name: str, model: Path, graph: Path) -> None:
    import onnxruntime

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
    """Largest absolute difference of an output, on seeded noise (small integers where asked)."""
    import numpy as np
    import onnxruntime

    from runners.engines.onnx.session import declared

    sessions = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in (model, graph)
    ]
    random = np.random.default_rng(0)
    inputs = {
        entry.name: random.uniform(-1, 1, [size or 4 for size in entry.shape]).astype(entry.dtype)
        if entry.dtype.startswith("float")
        else random.integers(0, 2, [size or 4 for size in entry.shape]).astype(entry.dtype)
        for entry in declared(sessions[0])
    }
    expected, found = (session.run(None, inputs) for session in sessions)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max())
        for a, b in zip(expected, found, strict=True)
    )
