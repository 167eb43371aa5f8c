"""A catalog around the small classifier, written by a test as it wants it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

EASY = {"max_loss": 1.0, "max_loss_at_worst": 1.0, "min_inputs": 5, "min_speedup": 0.001}


@pytest.fixture
def write(tmp_path: Path, classifier: Path) -> Any:
    """Writes a catalog with the small classifier, and what its artifact says besides."""

    def write(**more: Any) -> Path:
        def address(name: str) -> dict[str, str]:
            path = classifier / name
            return {
                "source": f"file:{path}",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }

        files = {name: address(name) for name in ("labels.json", "preprocess.json")}
        artifact = {"tag": "small", **address("model.onnx"), "files": files, **more}
        catalog = {
            "version": 1,
            "classes": {"interactive": {"deadline_ms": 1000, "priority": 1}},
            "models": {
                "small": {"task": "image", "runner": {"engine": "onnx"}, "artifact": artifact},
                "text": {"task": "chat", "runner": {"engine": "fake"}},
            },
            "routes": {
                "image": {
                    "task": "image", "candidates": ["small"], "latency_class": "interactive",
                }
            },
        }  # fmt: skip
        path = tmp_path / "catalog.yaml"
        path.write_text(yaml.safe_dump(catalog))
        return path

    return write
