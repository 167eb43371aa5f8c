"""Embedding: sentences in, unit vectors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runners.tasks.hashed_ngrams import HashedNgrams
from runners.tasks.outputs import table
from runners.tasks.settings import FILE, Settings
from runners.tasks.text import SENTENCE, TextReader, WordPieces, joined, texts_of
from turnout.errors import ArtifactInvalid
from turnout.types import Tensors


class EmbedTask:
    """Converts ``text`` BYTES [n] to ``embedding`` FP32 [n, width].

    Args:
        reader: turns texts into the model's inputs.
        dimensions: ``width``, if the folder has it.
    """

    def __init__(self, reader: TextReader, dimensions: Mapping[str, int] | None = None) -> None:
        self._reader = reader
        self.dimensions = dimensions or {}

    @classmethod
    def load(cls, folder: Path) -> EmbedTask:
        """Read ``task.json`` (hashed text), else ``tokenizer.json``."""
        if (folder / FILE).is_file():
            settings = Settings(folder)
            return cls(
                HashedNgrams(settings.number("buckets")), {"width": settings.number("width")}
            )
        from tokenizers import Tokenizer  # a gateway of hashed text starts without it

        try:
            return cls(WordPieces(Tokenizer.from_file(str(folder / "tokenizer.json"))))
        except Exception as error:  # tokenizers raises a bare Exception
            raise ArtifactInvalid(
                f"{folder} holds no readable tokenizer.json ({error}); build the model again"
            ) from error

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        return self._reader.read(texts_of(tensors))

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``; pads every row to the longest."""
        return joined(requests, self._reader.inputs)

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``; the graph has already made the vectors unit length."""
        vectors = table(outputs, "sentence", self.dimensions.get("width"))
        return {"embedding": vectors.astype(np.float32, copy=False)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``; a sentence of some twenty tokens."""
        return self._reader.read([SENTENCE] * rows)
