"""Lookup: item numbers in, the text of each item out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runners.tasks.outputs import vector
from runners.tasks.rows import single, whole_rows
from runners.tasks.settings import Settings
from turnout.errors import InvalidRequest
from turnout.types import Tensors

MAX_ROWS = 4096


class LookupTask:
    """Converts ``item`` INT64 [n] to ``text`` BYTES [n].

    Args:
        items: how many there are; their numbers begin at 0.
    """

    def __init__(self, items: int) -> None:
        self._items = items

    @classmethod
    def load(cls, folder: Path) -> LookupTask:
        """Read ``task.json``."""
        return cls(Settings(folder).number("items"))

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        items = whole_rows(single(tensors, "item"), "item", MAX_ROWS)
        unknown = (items < 0) | (items >= self._items)
        if unknown.any():
            row = int(unknown.argmax())
            raise InvalidRequest(
                f"item row {row}: no item has the number {items[row]}; they are 0 to "
                f"{self._items - 1}",
                param="item",
            )
        return {"item": items}

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``."""
        if len(requests) == 1:
            return requests[0]
        return {"item": np.concatenate([request["item"] for request in requests])}

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``; takes ``text``, strings [n]."""
        texts = [str(text).encode() for text in vector(outputs, "text")]
        return {"text": np.array(texts, dtype=object)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``."""
        return {"item": np.zeros(rows, np.int64)}
