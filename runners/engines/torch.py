"""The PyTorch engine: run an exported program, ``model.pt2`` (``torch.export.save``).

``load`` imports torch, not this module, so that a gateway without such a model never pays for it.

Names come from the program: an input has its argument's name, an output its key when the module
returns a dict, else ``output_0``, ``output_1`` and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runners.engines.load_cost import LoadMeter
from runners.engines.shape_check import DeclaredInput, misfits
from runners.engines.threads import sleep_when_idle
from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from runners.protocol import ActiveEngine
    from turnout.catalog import Model
    from turnout.types import Tensors

FILE = "model.pt2"


class TorchRunner:
    """Runs one exported program.

    Args:
        name: the model's name, for errors.
        path: the ``.pt2`` file.
        device: ``cpu`` or ``cuda``, as requested.
        threads: the threads of a run; PyTorch has one number per process, the last load's.
        strict: refuse to load when the device is missing.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        device: Literal["cpu", "cuda"] = "cpu",
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        self._name = name
        self._path = path
        self._device = device
        self._threads = threads
        self._strict = strict
        self._active_device = "cpu"
        self._module: Any = None
        self._inputs: list[DeclaredInput] = []
        self._by_keyword = False

    @classmethod
    def of(cls, name: str, model: Model, folder: Path) -> TorchRunner:
        """Build the runner of a catalog entry."""
        options = model.runner
        if options.engine != "torch":
            raise LoadFailed(name, f"engine {options.engine!r} given to the torch runner")
        return cls(
            name,
            folder / FILE,
            device=options.device,
            threads=options.threads,
            strict=options.strict,
        )

    def load(self) -> ActiveEngine:
        """Read the program; see ``Runner.load``."""
        meter = LoadMeter("torch")
        sleep_when_idle()
        import torch

        if not self._path.is_file():
            raise LoadFailed(self._name, f"{self._path} is missing; build the model again")
        reason = None
        if self._device == "cuda" and not torch.cuda.is_available():
            reason = "PyTorch sees no CUDA device here (or is a CPU build)"
            if self._strict:
                raise LoadFailed(self._name, f"{reason}; strict forbids a fallback")
        self._active_device = "cpu" if reason else self._device
        torch.set_num_threads(self._threads)
        try:
            program = torch.export.load(str(self._path))
            if self._active_device == "cuda":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, "cuda")
            self._module = program.module()
        except Exception as error:
            # reading a damaged archive raises errors of zipfile, json or torch
            raise LoadFailed(
                self._name,
                f"torch cannot load {self._path}: {error}; export it again with this torch "
                f"({torch.__version__})",
            ) from error
        self._inputs = _inputs(program)
        self._by_keyword = bool(program.example_inputs and program.example_inputs[1])
        return meter.finish(self._device, self._active_device, reason=reason)

    def run(self, tensors: Tensors) -> Mapping[str, np.ndarray[Any, Any]]:
        """Run one batch; see ``TensorRunner.run``."""
        if self._module is None:
            raise RunFailed(self._name, "is not loaded; call load first")
        import torch

        problems = misfits(self._inputs, tensors)
        if problems:
            raise RunFailed(self._name, "; ".join(problems))
        inputs = {
            entry.name: torch.tensor(tensors[entry.name], device=self._active_device)
            for entry in self._inputs
        }
        try:
            with torch.inference_mode():
                result = (
                    self._module(**inputs) if self._by_keyword else self._module(*inputs.values())
                )
        except Exception as error:
            # a graph raises any error of its operators
            raise RunFailed(self._name, f"torch: {error}") from error
        return {name: value.cpu().numpy() for name, value in _named(result).items()}

    def close(self) -> None:
        """Release the program."""
        self._module = None


def _named(result: Any) -> dict[str, Any]:
    if isinstance(result, dict):
        return result
    outputs = result if isinstance(result, tuple | list) else (result,)
    return {f"output_{index}": value for index, value in enumerate(outputs)}


def _inputs(program: Any) -> list[DeclaredInput]:
    names = set(program.graph_signature.user_inputs)
    return [
        DeclaredInput(
            node.name,
            str(node.meta["val"].dtype).removeprefix("torch."),
            tuple(size if isinstance(size, int) else None for size in node.meta["val"].shape),
        )
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
