"""The registry of local engines by name; an engine is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol, cast

from turnout.errors import LoadFailed

if TYPE_CHECKING:
    from pathlib import Path

    from runners.protocol import TensorRunner, TextRunner
    from turnout.catalog import Model

ENGINES = {
    "onnx": "runners.engines.onnx.session:OnnxRunner.of",
    "torch": "runners.engines.torch:TorchRunner.of",
    "tensorrt": "runners.engines.tensorrt:TensorRTRunner.of",
    "deepspeed": "runners.engines.deepspeed.runner:make",
    "onnx-genai": "runners.engines.onnx_genai:make",
    "fake": "runners.engines.fake:make",
}


class _RunnerFactory(Protocol):
    def __call__(self, name: str, model: Model, folder: Path | None) -> TensorRunner | TextRunner:
        """Build a runner without loading its model."""
        ...


def make(name: str, model: Model, folder: Path | None) -> TensorRunner | TextRunner:
    """Build the runner of a local model. Heavy packages are imported by its ``load``.

    Args:
        name: the model's name in the catalog, for errors.
        model: its entry; remote engines have no runner (see ``runners.backends.remote``).
        folder: the folder of its files; None for an engine that needs none.

    Raises:
        LoadFailed: the engine runs elsewhere, or needs files and has none.
    """
    engine = model.runner.engine
    target = ENGINES.get(engine)
    if target is None:
        local = ", ".join(ENGINES)
        raise LoadFailed(name, f"engine {engine!r} does not run here; local engines are {local}")
    if folder is None and model.runner.needs_files:
        raise LoadFailed(name, f"engine {engine!r} needs the model's files and was given no folder")
    module, _, path = target.partition(":")
    factory = attrgetter(path)(import_module(module))
    return cast("_RunnerFactory", factory)(name, model, folder)
