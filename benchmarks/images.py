"""Measure the top-1 accuracy of the image models on labelled pictures.

    python -m benchmarks.images --images DIR --json FILE
    python -m benchmarks.images --images DIR --url http://127.0.0.1:3000 --model image-small

In this process: every ``recipe: efficientnet-lite`` of the catalog under ONNX Runtime and under
torch, on the same prepared pictures, and how often the two agree. With ``--url``: one model (or
route) of a running server, by the Open Inference Protocol, a picture a request.

``DIR/labels.json`` maps a file's name to its ImageNet class index.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import save
from runners.tasks.image import ImageTask
from services.artifacts.store import resolve
from turnout.catalog import load

_BATCH = 16
_CATALOG = Path(__file__).parents[1] / "catalog" / "default.yaml"


def labelled(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Return the pictures of a folder and their class indices, int64 [n]."""
    labels: Mapping[str, int] = json.loads((folder / "labels.json").read_text("utf-8"))
    paths = [folder / name for name in sorted(labels) if (folder / name).is_file()]
    return paths, np.array([labels[path.name] for path in paths], np.int64)


def in_process(folder: Path, pictures: Sequence[Path], classes: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of one artefact under ONNX Runtime and torch."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    program = torch.export.load(folder / "model.pt2").module()

    def with_torch(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(images))["logits"].numpy()

    def with_onnx(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["logits"], {"image": images})[0])

    task = ImageTask.load(folder)
    engines: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "onnx": with_onnx,
        "torch": with_torch,
    }
    logits: dict[str, list[np.ndarray]] = {name: [] for name in engines}
    spent_s = dict.fromkeys(engines, 0.0)
    for images in _prepared(task, pictures):
        for name, engine in engines.items():
            started_s = time.perf_counter()
            logits[name].append(engine(images))
            spent_s[name] += time.perf_counter() - started_s
    found = {name: np.concatenate(parts) for name, parts in logits.items()}
    best = {name: values.argmax(axis=1) for name, values in found.items()}
    return {
        "images": len(pictures),
        **{f"top1_{name}": float((ids == classes).mean()) for name, ids in best.items()},
        "agreement": float((best["onnx"] == best["torch"]).mean()),
        "max_abs_logit_difference": float(np.abs(found["onnx"] - found["torch"]).max()),
        **{f"ms_per_image_{name}": 1e3 * spent_s[name] / len(pictures) for name in engines},
    }


def by_url(url: str, model: str, pictures: Sequence[Path], classes: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of a served model, one picture per request."""
    import tritonclient.http as oip

    client = oip.InferenceServerClient(url.removeprefix("http://"))
    correct = 0
    started_s = time.perf_counter()
    for path, expected in zip(pictures, classes, strict=True):
        image = oip.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([path.read_bytes()], dtype=np.object_))
        answer = client.infer(model, [image]).as_numpy("class_id")
        correct += int(answer is not None and answer[0] == expected)
    seconds = time.perf_counter() - started_s
    count = len(pictures)
    return {"images": count, "top1": correct / count, "ms_per_image": 1e3 * seconds / count}


def _prepared(task: ImageTask, pictures: Sequence[Path]) -> Iterator[np.ndarray]:
    for first in range(0, len(pictures), _BATCH):
        rows = np.empty(len(pictures[first : first + _BATCH]), dtype=object)
        rows[:] = [path.read_bytes() for path in pictures[first : first + _BATCH]]
        yield task.prepare({"image": rows})["image"]


def main() -> None:
    """Measure, print, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--catalog", type=Path, default=_CATALOG)
    parser.add_argument("--url", help="a running server, e.g. http://127.0.0.1:3000")
    parser.add_argument("--model", action="append", help="with --url; may be repeated")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures, classes = labelled(arguments.images)
    if arguments.url:
        models = arguments.model or ["image"]
        rows = {name: by_url(arguments.url, name, pictures, classes) for name in models}
    else:
        artifacts = {
            model.artifact.tag: model.artifact
            for model in load(arguments.catalog).models.values()
            if model.artifact is not None and model.artifact.recipe == "efficientnet-lite"
        }
        rows = {
            tag: in_process(resolve(artifact), pictures, classes)
            for tag, artifact in artifacts.items()
        }
    print(json.dumps(rows, indent=1))
    save(arguments.json, {"url": arguments.url, "models": rows})


if __name__ == "__main__":
    main()
