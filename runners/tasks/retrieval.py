"""Retrieval: users or query vectors in, the best items with their features out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runners.tasks.outputs import OutputMismatch, table
from runners.tasks.rows import finite_rows, single, whole_rows
from runners.tasks.settings import Settings
from turnout.types import Tensors

MAX_ROWS = 1024


class _RetrievedItems:
    """The shared outputs: ``item`` and ``score`` [n, top], ``features`` [n, top, columns]."""

    dimensions: Mapping[str, int]

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``."""
        if len(requests) == 1:
            return requests[0]
        return {
            name: np.concatenate([request[name] for request in requests]) for name in requests[0]
        }

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``."""
        top, columns = self.dimensions["top"], self.dimensions["columns"]
        features = outputs["features"]
        if features.shape[1:] != (top, columns):
            raise OutputMismatch(
                f"output 'features' has shape {list(features.shape)}; this task takes "
                f"[n, {top}, {columns}]"
            )
        return {
            "item": table(outputs, "item", top).astype(np.int64, copy=False),
            "score": table(outputs, "score", top).astype(np.float32, copy=False),
            "features": features.astype(np.float32, copy=False),
        }


class RecommendTask(_RetrievedItems):
    """Converts ``user`` INT64 [n] to each one's best items; an unknown user gets popular ones.

    Args:
        dimensions: ``top`` and ``columns``.
    """

    def __init__(self, dimensions: Mapping[str, int]) -> None:
        self.dimensions = dimensions

    @classmethod
    def load(cls, folder: Path) -> RecommendTask:
        """Read ``task.json``."""
        settings = Settings(folder)
        return cls({"top": settings.number("top"), "columns": len(settings.words("columns"))})

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        return {"user": whole_rows(single(tensors, "user"), "user", MAX_ROWS)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``."""
        return {"user": np.zeros(rows, np.int64)}


class RetrieveTask(_RetrievedItems):
    """Converts ``embedding`` FP32 [n, width] to the nearest items of each.

    Args:
        dimensions: ``width``, ``top`` and ``columns``.
    """

    def __init__(self, dimensions: Mapping[str, int]) -> None:
        self.dimensions = dimensions
        self._names = [f"value {index}" for index in range(dimensions["width"])]

    @classmethod
    def load(cls, folder: Path) -> RetrieveTask:
        """Read ``task.json``."""
        settings = Settings(folder)
        sizes = {name: settings.number(name) for name in ("width", "top")}
        return cls({**sizes, "columns": len(settings.words("columns"))})

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        rows = finite_rows(single(tensors, "embedding"), "embedding", self._names)
        return {"embedding": rows}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``."""
        return {"embedding": np.ones((rows, len(self._names)), np.float32)}
