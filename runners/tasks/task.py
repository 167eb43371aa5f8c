"""Tasks convert the public tensors of requests to model inputs, and model outputs back.

Light to import: numpy here; Pillow or tokenizers only where a task needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from turnout.errors import ArtifactInvalid, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from turnout.types import Task, Tensors


class TensorTask(Protocol):
    """One task with the settings of one model. Stateless after loading; safe from any thread."""

    def prepare(self, tensors: Tensors) -> Tensors:
        """Turn the public inputs of one request into model inputs.

        Args:
            tensors: see ``turnout.types.SIGNATURES``; BYTES are object arrays of ``bytes``.

        Raises:
            InvalidRequest: with the row and its fault.
        """
        ...

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """Join the model inputs of several requests, rows in order."""
        ...

    def finish(self, outputs: Tensors) -> Tensors:
        """Turn the model's outputs for a batch into public outputs, a row each."""
        ...

    def example(self, rows: int) -> Tensors | None:
        """Return model inputs of ``rows`` rows, as ``prepare`` makes them of typical requests.

        Returns:
            None when the task does not know the model's inputs.
        """
        ...


TASKS: Mapping[str, str] = {
    "image": "runners.tasks.image:ImageTask",
    "tabular": "runners.tasks.tabular:TabularTask",
    "embed": "runners.tasks.embed:EmbedTask",
    "classify-text": "runners.tasks.classify_text:ClassifyTextTask",
    "rank": "runners.tasks.tabular:RankTask",
    "recommend": "runners.tasks.retrieval:RecommendTask",
    "retrieve": "runners.tasks.retrieval:RetrieveTask",
    "lookup": "runners.tasks.lookup:LookupTask",
}
"""The task classes by the value of ``turnout.types.Task``, which a cold start does not import."""


def load_task(task: Task, folder: Path, dimensions: Mapping[str, int] | None = None) -> TensorTask:
    """Read a task's settings from a model's folder.

    Args:
        task: the task.
        folder: the model's files.
        dimensions: the sizes of the public tensors in the catalog, checked against the model.

    Raises:
        ArtifactInvalid: a file is missing or damaged, or the catalog has other dimensions.
        ConfigError: the task has no tensors of this kind (chat belongs to the text engines).
    """
    if task not in TASKS:
        raise ConfigError(f"task {task.value!r} is served by text engines, not by tensors")
    module, _, name = TASKS[task].partition(":")
    loaded = getattr(importlib.import_module(module), name).load(folder)
    sizes: Mapping[str, int] = getattr(loaded, "dimensions", {})
    for key, size in (dimensions or {}).items():
        if sizes.get(key, size) != size:
            raise ArtifactInvalid(
                f"the catalog says {key}: {size}, the model in {folder} has {sizes[key]}"
            )
    return loaded
