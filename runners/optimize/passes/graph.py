"""Fold constants, drop dead nodes, fuse operators independently of the processor, infer shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from runners.optimize.graphs import name_nodes, operators
from runners.optimize.optimization import Pass, PassContext
from turnout.errors import ArtifactInvalid, ConfigError


def run(source: Path, out: Path, setting: PassContext) -> Mapping[str, Any]:
    """Let ONNX Runtime rewrite the graph without anything that is particular to a processor.

    ``level: extended`` also fuses into operators that only ONNX Runtime has.
    """
    levels = {
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    }
    level = setting.options["level"]
    if level not in levels:
        raise ConfigError(f"pass 'graph': level is {' or '.join(levels)}, not {level!r}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = levels[level]
    options.optimized_model_filepath = str(out)
    before = onnx.load(str(source))
    try:
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime raises a class of its own for each status.
        raise ArtifactInvalid(
            f"onnxruntime cannot run {source.name}: {error}. Export the model again without this "
            f"operator, or with an opset it knows; it has {', '.join(sorted(operators(before)))}"
        ) from error
    after = onnx.shape_inference.infer_shapes(onnx.load(str(out)))
    onnx.save(name_nodes(after), str(out))
    return {"nodes_before": len(before.graph.node), "nodes_after": len(after.graph.node)}


PASS = Pass(run, "fold, fuse and infer shapes (ONNX Runtime)", {"level": "basic"})
