"""Run the cold start without one of its measures, for ``benchmarks.coldstart --variants``.

    python -m benchmarks.cold_variant --without preload --image cat.jpg

The same parts in the same order as ``services.cold_start``; prints the same line.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

MEASURES = {
    "import diet": "BentoML is imported first, as the gateway does",
    "preload": "no thread maps shared libraries beside the imports",
    "no docstrings": "numpy hangs its docstrings on its functions",
    "parallel load": "the session opens once everything is imported, not meanwhile",
    "saved graph": "the model's own file is optimised at each start",
    "mapped weights": "the saved graph has its weights inside, to be parsed and copied",
    "collector off": "the garbage collector runs during the start",
    "no teardown": "the process ends as Python's do",
}
"""What can be left out, and what happens then."""

INSIDE = "graph-with-weights.onnx"


def main() -> None:
    """Print the class of one picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--without", choices=MEASURES)
    parser.add_argument("--image", required=True)
    options = parser.parse_args()
    without = options.without
    if without != "collector off":
        gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if without != "preload":
        from services.process.preload import preload

        preload()
    if without != "no docstrings":
        from services.process.preload import leave_out_docstrings

        leave_out_docstrings()
    if without == "import diet":
        import bentoml  # noqa: F401
    answer = classify(without, Path(options.image))
    import json

    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    if without != "no teardown":
        os._exit(0)


def classify(without: str | None, image: Path) -> dict[str, Any]:
    """Return the class of one picture, by the gateway's engine and task."""
    from services.cold_start import MODEL
    from services.coldstart.artifact import artifact_folder

    folder = artifact_folder(MODEL)
    import numpy as np
    import onnxruntime  # noqa: F401

    from runners.engines.onnx.session import OnnxRunner

    path, optimised = _graph(without, MODEL, folder)
    runner = OnnxRunner(MODEL, path, threads=os.cpu_count() or 1, optimised=optimised)
    opening = threading.Thread(target=runner.load)
    if without != "parallel load":
        opening.start()
    from runners.tasks.image import ImageTask

    task = ImageTask.load(folder)
    rows = np.empty(1, dtype=object)
    rows[0] = image.read_bytes()
    prepared = task.prepare({"image": rows})
    if without == "parallel load":
        opening.start()
    opening.join()
    outputs = task.finish(runner.run(prepared))
    return {"class_id": int(outputs["class_id"][0]), "score": float(outputs["score"][0])}


def write_inside(model: Path, graph: Path) -> None:
    """Save a model's graph as optimised for this machine, with the weights in the same file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(graph)
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _graph(without: str | None, name: str, folder: Path) -> tuple[Path, bool]:
    """Return the file to open, and whether it is a saved graph."""
    from runners.engines.onnx.graph_cache import graph_folder, saved_graph
    from runners.engines.onnx.session import FILE

    model = folder / FILE
    if without == "saved graph":
        return model, False
    if without == "mapped weights":
        return graph_folder(name).parent / INSIDE, True
    saved = saved_graph(model, graph_folder(name))
    if saved is None:
        raise FileNotFoundError("save the graph first: python -m services.cold_start --prepare")
    return saved, True


if __name__ == "__main__":
    main()
