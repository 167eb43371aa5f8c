"""Text inputs as numbers: a tokenizer's word pieces, or hashed words and trigrams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from runners.tasks.hashed_ngrams import padded
from runners.tasks.rows import byte_rows
from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from turnout.types import Tensors

MAX_ROWS = 1024
MAX_TOKENS = 256
_MAX_CHARACTERS = 16_384
"""Longer text hardly reaches the first 256 tokens (except, say, behind pages of spaces)."""
SENTENCE = "The quick brown fox jumps over the lazy dog while the river runs slowly to the sea."
"""A text of usual length, for examples and warm-up."""


class TextReader(Protocol):
    """Converts texts to the inputs of one model."""

    inputs: tuple[str, ...]

    def read(self, texts: Sequence[str]) -> Tensors:
        """Return the model's inputs, INT64 [n, longest] each, padded with 0."""
        ...


class WordPieces:
    """``input_ids`` and ``attention_mask`` by a tokenizer; longer text is cut at 256 tokens.

    Args:
        tokenizer: its padding and truncation are set here.
    """

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer = tokenizer

    def read(self, texts: Sequence[str]) -> Tensors:
        """See ``TextReader.read``."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        rows = [np.array(encoding.ids, np.int64) for encoding in encodings]
        return {
            "input_ids": padded(rows),
            "attention_mask": padded([np.ones_like(row) for row in rows]),
        }


def texts_of(tensors: Tensors, name: str = "text") -> list[str]:
    """Return the texts of a BYTES tensor of shape [n].

    Raises:
        InvalidRequest: with the row that is empty or not UTF-8.
    """
    texts: list[str] = []
    for index, row in enumerate(byte_rows(tensors, name, MAX_ROWS)):
        try:
            texts.append(row.decode("utf-8")[:_MAX_CHARACTERS])
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"{name} row {index} is not UTF-8: {error.reason} at byte {error.start}",
                param=name,
            ) from None
    return texts


def joined(requests: Sequence[Tensors], names: Sequence[str]) -> Tensors:
    """Return the rows of all requests, padded to the longest."""
    if len(requests) == 1:
        return requests[0]
    width = max(request[names[0]].shape[1] for request in requests)
    return {
        name: np.concatenate(
            [
                np.pad(request[name], ((0, 0), (0, width - request[name].shape[1])))
                for request in requests
            ]
        )
        for name in names
    }
