"""Half precision, for GPUs: inputs and outputs stay float32. On a CPU it is slower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from runners.optimize.graphs import check_names
from runners.optimize.optimization import Options, Pass, PassContext

OPTIONS: Options = {"exclude": ()}


def run(source: Path, out: Path, setting: PassContext) -> Mapping[str, Any]:
    """Convert weights and arithmetic."""
    model = onnx.load(str(source))
    check_names(model, setting.options["exclude"], "pass 'fp16': exclude")
    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=list(setting.options["exclude"])
    )
    onnx.save(half, str(out))
    return {"bytes_before": source.stat().st_size, "bytes_after": out.stat().st_size}


PASS = Pass(run, "half precision, for GPUs", OPTIONS)
