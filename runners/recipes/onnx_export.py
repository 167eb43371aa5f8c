"""Convert a torch.export program to one ONNX file and compare it with a reference."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runners.recipes.onnx_session import run_onnx
from turnout.errors import ArtifactInvalid


def program_of(
    model: torch.nn.Module, example: tuple[torch.Tensor, ...], dynamic: Any
) -> torch.export.ExportedProgram:
    """Trace a model; ``dynamic`` lists the free axes (torch's ``dynamic_shapes``)."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(model, example, dynamic_shapes=dynamic)


def write_onnx(
    program: torch.export.ExportedProgram, path: Path, inputs: Sequence[str], output: str
) -> None:
    """Write the program as a single ONNX file with these tensor names."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                program,
                f=str(path),
                input_names=list(inputs),
                output_names=[output],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def difference(
    path: Path, inputs: Mapping[str, np.ndarray], expected: np.ndarray, tolerance: float
) -> float:
    """Return the largest absolute difference between an ONNX file's output and a reference.

    Raises:
        ArtifactInvalid: the difference is not under ``tolerance``.
    """
    largest = float(np.abs(run_onnx(path, inputs) - expected).max())
    if not largest < tolerance:
        raise ArtifactInvalid(
            f"{path.name} differs from its reference by {largest:.3g}, over {tolerance:g}; check "
            "the versions of torch and onnx"
        )
    return largest
