"""Run an ONNX file once, to compare it with its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime


def run_onnx(path: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the graph's first output on ONNX Runtime's CPU provider."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(inputs))[0])
