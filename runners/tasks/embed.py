"""Sentences in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from runners.tasks.rows import byte_rows
from turnout.errors import ArtifactInvalid, InvalidRequest
from turnout.types import Tensors

_SENTENCE = b"The quick brown fox jumps over the lazy dog while the river runs slowly to the sea."
MAX_ROWS = 1024
MAX_TOKENS = 256
_MAX_CHARACTERS = 16_384
"""Text beyond this can't reach the first 256 tokens, save in odd cases (pages of spaces)."""


class EmbedTask:
    """``text`` BYTES [n] to ``embedding`` FP32 [n, 384]; longer text is cut at 256 tokens.

    Args:
        tokenizer: its padding and truncation are set here.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> EmbedTask:
        """Read ``tokenizer.json``."""
        try:
            return cls(Tokenizer.from_file(str(folder / "tokenizer.json")))
        except Exception as error:  # tokenizers raises a bare Exception
            raise ArtifactInvalid(
                f"{folder} holds no readable tokenizer.json ({error}); build the model again"
            ) from error

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``; gives ids and mask, INT64 [n, tokens]."""
        texts: list[str] = []
        for index, row in enumerate(byte_rows(tensors, "text", MAX_ROWS)):
            try:
                texts.append(row.decode("utf-8")[:_MAX_CHARACTERS])
            except UnicodeDecodeError as error:
                raise InvalidRequest(
                    f"text row {index} is not UTF-8: {error.reason} at byte {error.start}",
                    param="text",
                ) from None
        encodings = self._tokenizer.encode_batch_fast(texts)
        return _padded([np.array(encoding.ids, np.int64) for encoding in encodings])

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``; pads every row to the longest."""
        if len(requests) == 1:
            return requests[0]
        lengths = [request["input_ids"].shape[1] for request in requests]
        width = max(lengths)
        joined = {}
        for name in ("input_ids", "attention_mask"):
            joined[name] = np.concatenate(
                [
                    np.pad(request[name], ((0, 0), (0, width - length)))
                    for request, length in zip(requests, lengths, strict=True)
                ]
            )
        return joined

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``; the graph has already made the vectors unit length."""
        return {"embedding": outputs["sentence"].astype(np.float32, copy=False)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``; a sentence of some twenty tokens."""
        text = np.array([_SENTENCE] * rows, dtype=object)
        return self.prepare({"text": text})


def _padded(rows: Sequence[np.ndarray[Any, Any]]) -> Tensors:
    width = max(len(row) for row in rows)
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
