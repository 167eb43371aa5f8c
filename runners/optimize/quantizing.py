"""Static quantisation in ONNX's QDQ form.

Ranges come from calibration; then quantise and dequantise pairs go around the chosen nodes. Ranges
are measured once and used for many variants.

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference (CVPR 2018); ONNX Runtime documentation, "Quantize ONNX models".
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

from runners.engines.host import processor
from turnout.errors import ArtifactInvalid, ConfigError

if TYPE_CHECKING:
    from turnout.types import Tensors

METHODS = ("minmax", "percentile", "entropy")
_CHUNK = 8


def ranges(
    model: Path,
    samples: Sequence[Tensors],
    operators: Sequence[str],
    method: str,
    percentile: float,
) -> Any:
    """Return the range of every tensor around these operators, over the samples.

    Args:
        model: float32, with a name on every node.
        samples: model inputs.
        operators: whose inputs and outputs will be quantised.
        method: ``minmax``, ``percentile`` or ``entropy``.
        percentile: of absolute values that stay inside, for ``percentile``.

    Returns:
        onnxruntime's ``TensorsData``.

    Raises:
        ArtifactInvalid: there are no samples.
        ConfigError: no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    if not samples:
        raise ArtifactInvalid(
            "no inputs to calibrate on; name pictures, rows or sentences with --inputs"
        )
    kinds = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    extra = {"percentile": percentile} if method == "percentile" else {}
    # The calibrator prints its progress on standard output, which is the report's.
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            str(model),
            list(operators),
            str(Path(scratch) / "augmented.onnx"),
            kinds[method],
            extra_options=extra,
        )
        # In parts: every activation of a part is in memory at once.
        for first in range(0, len(samples), _CHUNK):
            calibrator.collect_data(_reader(samples[first : first + _CHUNK]))
        return calibrator.compute_data()


def quantize(
    model: Path,
    out: Path,
    tensor_ranges: Any,
    operators: Sequence[str],
    *,
    exclude: Collection[str] = (),
    only: Collection[str] = (),
    activations: str = "u8",
    per_channel: bool = True,
    reduce_range: bool = False,
) -> None:
    """Write the model with int8 weights and activations around the chosen nodes.

    Args:
        model: as given to ``ranges``.
        out: where to.
        tensor_ranges: the ranges from ``ranges``.
        operators: which kinds of node.
        exclude: nodes that stay in float32.
        only: if given, no other nodes than these.
        activations: ``u8`` or ``s8``.
        per_channel: one scale for each output channel of a weight.
        reduce_range: 7 bits for weights, where 8 would overflow 16-bit sums.
    """
    kinds = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
    if activations not in kinds:
        raise ConfigError(f"activations is u8 or s8, not {activations!r}")
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(model),
        per_channel,
        reduce_range,
        QuantType.QInt8,
        kinds[activations],
        tensor_ranges,
        list(only),
        list(exclude),
        list(operators),
        {"ActivationSymmetric": activations == "s8", "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(out), False)


def overflows() -> bool:
    """Return whether sums of 8-bit products may overflow 16 bits on this processor.

    x86 without the VNNI instructions does. Source: ONNX Runtime documentation, "Quantize ONNX
    models", on reduce_range and U8S8.
    """
    features = processor()[1]
    return "vnni" not in features and "asimd" not in features


def _reader(samples: Sequence[Tensors]) -> Any:
    """Return a calibration reader that yields one sample at a time."""

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(samples)

        def get_next(self) -> Any:
            sample = next(self._left, None)
            return None if sample is None else dict(sample)

    return Reader()
