"""Static int8, except for the nodes whose quantisation changes the output most.

Each weighted node is quantised alone and the change of the output measured; then nodes are left
in float32 from the most sensitive on until the calibration inputs are answered alike.
Source: Wu et al., Integer Quantization for Deep Learning Inference: Principles and Empirical
Evaluation (arXiv 2004.09602), section on partial quantisation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from runners.engines.onnx.session import CPU, open_session
from runners.optimize.graphs import nodes_of
from runners.optimize.optimization import Options, Pass, PassContext
from runners.optimize.passes.int8 import OPTIONS as STATIC
from runners.optimize.passes.int8 import WEIGHTED
from runners.optimize.quantizing import overflows, quantize, ranges
from turnout.errors import ArtifactInvalid

OPTIONS: Options = {
    **{key: value for key, value in STATIC.items() if key not in ("exclude", "keep_ends")},
    "max_error": 0.1,
    "max_kept": 0.5,
    "probe_inputs": 8,
}
"""``max_error``: relative error of the output on the calibration inputs that is good enough;
``max_kept``: the largest share of nodes left in float32; ``probe_inputs``: on how many inputs one
node's sensitivity is measured."""


def run(source: Path, out: Path, setting: PassContext) -> Mapping[str, Any]:
    """Rank the nodes by sensitivity, then quantise all but the most sensitive."""
    options = setting.options
    nodes = nodes_of(onnx.load(str(source)), WEIGHTED)
    if not nodes:
        raise ArtifactInvalid(
            "pass 'int8-mixed' finds no Conv, Gemm or MatMul to quantise; leave it out"
        )
    setting.report(f"calibrating on {len(setting.samples)} inputs ({options['method']})")
    operators = options["operators"]
    quantizer = _VariantQuantizer(
        source,
        ranges(source, setting.samples, operators, options["method"], float(options["percentile"])),
        operators,
        overflows() if options["reduce_range"] is None else options["reduce_range"],
        options,
    )
    few = setting.samples[: int(options["probe_inputs"])]
    expected = outputs(source, few)
    errors: dict[str, float] = {}
    for index, node in enumerate(nodes):
        if index % 10 == 0:
            setting.report(f"sensitivity of node {index + 1} of {len(nodes)}")
        errors[node] = quantizer.error(few, expected, only=[node])
    ranked = sorted(nodes, key=lambda node: -errors[node])
    in_float32, error = _search(quantizer, ranked, setting)
    quantizer.write(out, exclude=in_float32)
    return {
        "calibration_inputs": len(setting.samples),
        "weighted_nodes": len(nodes),
        "kept_in_float32": list(in_float32),
        "relative_error": round(error, 5),
        "sensitivity": {node: round(errors[node], 6) for node in ranked[:20]},
    }


def _search(
    quantizer: _VariantQuantizer, ranked: Sequence[str], setting: PassContext
) -> tuple[Sequence[str], float]:
    """Return the nodes to leave in float32, their number doubled until the error is small."""
    expected = outputs(quantizer.source, setting.samples)
    limit = int(len(ranked) * float(setting.options["max_kept"]))
    count, best = 0, (tuple[str, ...](), float("inf"))
    while True:
        in_float32 = tuple(ranked[:count])
        error = quantizer.error(setting.samples, expected, exclude=in_float32)
        setting.report(f"{count} nodes in float32: relative error {error:.4f}")
        if error < best[1]:
            best = (in_float32, error)
        if error <= setting.options["max_error"] or count >= limit:
            return best
        count = min(max(2 * count, 1), limit)


class _VariantQuantizer:
    """Quantises variants of one model and measures what they change."""

    def __init__(
        self,
        source: Path,
        tensor_ranges: Any,
        operators: Sequence[str],
        reduce_range: bool,
        options: Options,
    ) -> None:
        self.source = source
        self._ranges = tensor_ranges
        self._operators = operators
        self._reduce_range = reduce_range
        self._options = options

    def write(
        self, out: Path, *, exclude: Collection[str] = (), only: Collection[str] = ()
    ) -> None:
        quantize(
            self.source,
            out,
            self._ranges,
            self._operators,
            exclude=exclude,
            only=only,
            activations=self._options["activations"],
            per_channel=self._options["per_channel"],
            reduce_range=self._reduce_range,
        )

    def error(
        self, samples: Sequence[Any], expected: np.ndarray, **chosen: Collection[str]
    ) -> float:
        """Return the relative error of the outputs, by norms."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "variant.onnx"
            self.write(path, **chosen)
            actual = outputs(path, samples)
        return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def outputs(path: Path, samples: Sequence[Any]) -> np.ndarray:
    """Return the first output of every sample, concatenated."""
    session = open_session(path.name, path, [(CPU, {})], threads=1)
    return np.concatenate([session.run(None, dict(sample))[0] for sample in samples])


PASS = Pass(run, "int8 but for the most sensitive nodes (QDQ)", OPTIONS, calibrated=True, host=True)
