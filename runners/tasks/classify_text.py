"""Text classification: texts in, the likeliest label and its probability out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runners.tasks.hashed_ngrams import HashedNgrams
from runners.tasks.outputs import table
from runners.tasks.settings import Settings
from runners.tasks.text import SENTENCE, TextReader, joined, texts_of
from turnout.types import Tensors


class ClassifyTextTask:
    """Converts ``text`` BYTES [n] to ``label`` BYTES [n] and ``score`` FP32 [n].

    Args:
        reader: turns texts into the model's inputs.
        labels: in the order of the model's classes.
    """

    def __init__(self, reader: TextReader, labels: Sequence[str]) -> None:
        self._reader = reader
        self._labels = np.array([label.encode() for label in labels], dtype=object)

    @classmethod
    def load(cls, folder: Path) -> ClassifyTextTask:
        """Read ``task.json``."""
        settings = Settings(folder)
        return cls(HashedNgrams(settings.number("buckets")), settings.words("labels"))

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        return self._reader.read(texts_of(tensors))

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``; pads every row to the longest."""
        return joined(requests, self._reader.inputs)

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``; takes ``probabilities`` FP32 [n, labels]."""
        shares = table(outputs, "probabilities", len(self._labels))
        best = shares.argmax(axis=1)
        score = np.take_along_axis(shares, best[:, None], axis=1)[:, 0]
        return {"label": self._labels[best], "score": score.astype(np.float32, copy=False)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``."""
        return self._reader.read([SENTENCE] * rows)
