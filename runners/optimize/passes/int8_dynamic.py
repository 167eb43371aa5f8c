"""Dynamic int8: weights in 8 bits, ranges of activations measured in every run.

For transformers. Convolutions stay in float32: ONNX Runtime has no fast dynamic one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from runners.optimize.graphs import check_names, nodes_of
from runners.optimize.optimization import Options, Pass, PassContext
from runners.optimize.quantizing import overflows
from turnout.errors import ArtifactInvalid

OPTIONS: Options = {"per_channel": True, "reduce_range": None, "exclude": ()}
_KINDS = ("MatMul", "Gemm")


def run(source: Path, out: Path, setting: PassContext) -> Mapping[str, Any]:
    """Quantise the weights."""
    options = setting.options
    model = onnx.load(str(source))
    nodes = nodes_of(model, _KINDS)
    if not nodes:
        raise ArtifactInvalid(
            "pass 'int8-dynamic' finds no MatMul or Gemm to quantise; leave it out for this model"
        )
    check_names(model, options["exclude"], "pass 'int8-dynamic': exclude")
    reduce_range = overflows() if options["reduce_range"] is None else options["reduce_range"]
    setting.report(f"quantising the weights of {len(nodes)} nodes")
    # It warns of a model that was not pre-processed, which is what pass `graph` does.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            str(source),
            str(out),
            op_types_to_quantize=list(_KINDS),
            per_channel=options["per_channel"],
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(options["exclude"]),
        )
    finally:
        logging.disable(before)
    return {"weighted_nodes": len(nodes), "reduce_range": reduce_range}


PASS = Pass(run, "int8 weights, activations ranged in each run", OPTIONS, host=True)
