"""A small convolutional classifier and inputs for it: seconds to quantise, no download."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE, CLASSES = 16, 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """An image artefact's folder: two convolutions, ReLU6 between, one matrix, five classes."""
    folder = tmp_path / "classifier"
    folder.mkdir()
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.4, shape).astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Clip", ["c1", "zero", "six"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Clip", ["c2", "zero", "six"], ["r2"]),
            helper.make_node("Flatten", ["r2"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w3"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", CLASSES])],
        [
            weight("w1", 8, 3, 3, 3),
            weight("w2", 8, 8, 3, 3),
            weight("w3", 8 * (SIDE // 4) ** 2, CLASSES),
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(6), "six"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "labels.json").write_text(json.dumps([f"class {i}" for i in range(CLASSES)]))
    (folder / "preprocess.json").write_text(
        json.dumps({"size": SIDE, "crop": 1.0, "mean": 127.0, "scale": 128.0})
    )
    return folder


def picture(seed: int) -> bytes:
    """A smooth random picture as PNG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures without labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(40):
        (folder / f"{seed:02}.png").write_bytes(picture(seed))
    return folder
