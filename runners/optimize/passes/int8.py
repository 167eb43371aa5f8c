"""Static int8: weights and activations in 8 bits, ranges from calibration inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from runners.optimize.graphs import check_names, nodes_of
from runners.optimize.optimization import Options, Pass, PassContext
from runners.optimize.quantizing import overflows, quantize, ranges
from turnout.errors import ArtifactInvalid

OPTIONS: Options = {
    "method": "minmax",
    "percentile": 99.99,
    "operators": ("Conv", "Gemm", "MatMul", "Add", "Clip"),
    "activations": "u8",
    "per_channel": True,
    "reduce_range": None,
    "keep_ends": False,
    "exclude": (),
}
"""``reduce_range: null`` decides by the processor; ``keep_ends`` leaves the first and last
weighted node in float32."""

WEIGHTED = ("Conv", "Gemm", "MatMul")


def run(source: Path, out: Path, setting: PassContext) -> Mapping[str, Any]:
    """Calibrate and quantise."""
    options = setting.options
    model = onnx.load(str(source))
    weighted = nodes_of(model, WEIGHTED)
    if not weighted:
        raise ArtifactInvalid(
            "pass 'int8' finds no Conv, Gemm or MatMul to quantise; leave it out for this model"
        )
    exclude = list(options["exclude"])
    check_names(model, exclude, "pass 'int8': exclude")
    if options["keep_ends"]:
        exclude += [weighted[0], weighted[-1]]
    setting.report(f"calibrating on {len(setting.samples)} inputs ({options['method']})")
    operators = options["operators"]
    tensor_ranges = ranges(
        source, setting.samples, operators, options["method"], float(options["percentile"])
    )
    reduce_range = overflows() if options["reduce_range"] is None else options["reduce_range"]
    setting.report(f"quantising {len(weighted) - len(exclude)} of {len(weighted)} weighted nodes")
    quantize(
        source,
        out,
        tensor_ranges,
        operators,
        exclude=exclude,
        activations=options["activations"],
        per_channel=options["per_channel"],
        reduce_range=reduce_range,
    )
    return {
        "calibration_inputs": len(setting.samples),
        "weighted_nodes": len(weighted),
        "kept_in_float32": len(exclude),
        "reduce_range": reduce_range,
    }


PASS = Pass(
    run, "int8 weights and activations, calibrated (QDQ)", OPTIONS, calibrated=True, host=True
)
