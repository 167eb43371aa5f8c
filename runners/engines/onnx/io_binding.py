"""Run a session with inputs and outputs at fixed places in device memory.

On CUDA each batch size is captured once as a CUDA graph, so that a later run launches all its
kernels at once. A graph replays one shape: rows are filled up to the next power of two.

Source: ONNX Runtime documentation, "CUDA Execution Provider", using CUDA graphs; "IOBinding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turnout.types import Tensors

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class BoundRuns:
    """Runs one session with bound inputs and outputs, each batch size bound once.

    Args:
        name: the model's name, for errors.
        session: an ``onnxruntime.InferenceSession``.
        device: the device of the inputs and outputs.
        index: the device's index.

    Raises:
        LoadFailed: an input or output has a free axis besides its rows, or holds text.
    """

    def __init__(
        self, name: str, session: Any, device: Literal["cuda", "cpu"], index: int = 0
    ) -> None:
        self._name = name
        self._session = session
        self._device = device
        self._index = index
        self._inputs = [_fixed(name, entry) for entry in session.get_inputs()]
        self._outputs = [_fixed(name, entry) for entry in session.get_outputs()]
        self._bound: dict[int, _Bound] = {}

    def run(self, tensors: Tensors) -> Mapping[str, np.ndarray[Any, Any]]:
        """Run one batch and copy its outputs back.

        Raises:
            RunFailed: an input is missing.
        """
        missing = [name for name, _, _ in self._inputs if name not in tensors]
        if missing:
            raise RunFailed(self._name, f"input {missing[0]!r} is missing")
        rows = len(next(iter(tensors.values())))
        size = filled(rows)
        bound = self._bound.get(size)
        if bound is None:
            bound = self._bound[size] = self._bind(size)
        for name, value in bound.inputs.items():
            value.update_inplace(_padded(tensors[name], size))
        self._session.run_with_iobinding(bound.binding, bound.options)
        # Copied, because the next run overwrites the buffer.
        return {name: value.numpy()[:rows].copy() for name, value in bound.outputs.items()}

    def _bind(self, size: int) -> _Bound:
        import onnxruntime

        binding = self._session.io_binding()
        inputs = {name: self._place(size, shape, kind) for name, shape, kind in self._inputs}
        outputs = {name: self._place(size, shape, kind) for name, shape, kind in self._outputs}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options = onnxruntime.RunOptions()
        if self._device == "cuda":
            # One captured graph for each batch size.
            options.add_run_config_entry("gpu_graph_id", str(size))
        return _Bound(binding, options, inputs, outputs)

    def _place(self, size: int, shape: Sequence[int], kind: Any) -> Any:
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [size, *shape], kind, self._device, self._index
        )


class _Bound(NamedTuple):
    """The binding of one batch size; inputs and outputs are ``OrtValue``s by name."""

    binding: Any
    options: Any
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def filled(rows: int) -> int:
    """Return the next power of two."""
    return 1 << max(rows - 1, 0).bit_length()


def _padded(array: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Return rows filled up with the last one, contiguous."""
    if len(array) < size:
        array = np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
    return np.ascontiguousarray(array)


def _fixed(name: str, entry: Any) -> tuple[str, tuple[int, ...], Any]:
    kind = _DTYPES.get(entry.type)
    shape = tuple(entry.shape[1:])
    if kind is None or not entry.shape or not all(isinstance(size, int) for size in shape):
        raise LoadFailed(
            name,
            f"cuda_graph needs numbers whose only free axis is their rows; {entry.name!r} is "
            f"{entry.type} {list(entry.shape)}. Turn cuda_graph off for this model",
        )
    return entry.name, shape, kind
