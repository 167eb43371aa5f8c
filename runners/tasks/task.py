"""What surrounds an engine: public tensors of requests to model inputs, and outputs back.

Light to import: numpy here; Pillow or tokenizers only where a task needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from turnout.errors import ConfigError

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
            InvalidRequest: names the row and what is wrong with it.
        """
        ...

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """Join the model inputs of several requests, rows in order."""
        ...

    def finish(self, outputs: Tensors) -> Tensors:
        """Turn the model's outputs for a batch into public outputs, a row each."""
        ...

    def example(self, rows: int) -> Tensors | None:
        """Model inputs of so many rows, as ``prepare`` would make them of typical requests.

        Returns:
            None when the task knows nothing of the inputs.
        """
        ...


TASKS: Mapping[str, str] = {
    "image": "runners.tasks.image:ImageTask",
    "tabular": "runners.tasks.tabular:TabularTask",
    "embed": "runners.tasks.embed:EmbedTask",
}
"""By the value of ``turnout.types.Task``, so that a cold start need not import it."""


def load_task(task: Task, folder: Path) -> TensorTask:
    """Read what a task needs from a model's folder.

    Raises:
        ArtifactInvalid: a file is missing or damaged.
        ConfigError: the task has no tensors of this kind (chat belongs to the text engines).
    """
    if task not in TASKS:
        raise ConfigError(f"task {task.value!r} is served by text engines, not by tensors")
    module, _, name = TASKS[task].partition(":")
    return getattr(importlib.import_module(module), name).load(folder)
