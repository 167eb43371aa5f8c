"""Which class runs which engine. The dictionary is the only registration there is."""

from __future__ import annotations

from importlib import import_module
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


class _Maker(Protocol):
    def __call__(self, name: str, model: Model, folder: Path | None) -> TensorRunner | TextRunner:
        """Build a runner without loading its model."""
        ...


def make(name: str, model: Model, folder: Path | None) -> TensorRunner | TextRunner:
    """Build the runner of a local model; nothing heavy is imported before its ``load``.

    Args:
        name: the model's name in the catalog, for errors.
        model: its entry; a remote engine is no runner (see ``runners.backends.remote``).
        folder: where its files are; None for ``fake``.

    Raises:
        LoadFailed: the engine runs elsewhere, or needs files and has none.
    """
    engine = model.runner.engine
    place = ENGINES.get(engine)
    if place is None:
        known = ", ".join(ENGINES)
        raise LoadFailed(name, f"engine {engine!r} does not run here; local ones are {known}")
    if folder is None and engine != "fake":
        raise LoadFailed(name, f"engine {engine!r} needs the model's files and was given no folder")
    module, _, path = place.partition(":")
    target: object = import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    return cast("_Maker", target)(name, model, folder)
