"""A three-class image model that needs no download: which of red, green and blue is strongest."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE = 16
NAME = "colours"
LABELS = ["red", "green", "blue"]


def write_model(folder: Path) -> Path:
    """Write ``model.onnx``, ``labels.json`` and ``preprocess.json``; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mean = np.kron(np.eye(3), np.full((SIZE * SIZE, 1), 8 / SIZE**2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "mean"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(mean, "mean")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, folder / "model.onnx")
    (folder / "labels.json").write_text(json.dumps(LABELS))
    settings = {"size": SIZE, "crop": 0.875, "mean": 127.0, "scale": 128.0}
    (folder / "preprocess.json").write_text(json.dumps(settings))
    return folder


def picture(colour: str, kind: str = "JPEG") -> bytes:
    """An encoded picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, kind)
    return file.getvalue()
