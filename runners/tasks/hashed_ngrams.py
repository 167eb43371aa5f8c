"""Texts as hashes of words, pairs of words and trigrams.

A trained model depends on exactly these hashes. When they change, the recipes that use them must
be built again: raise their versions (``runners.recipes.versions``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from turnout.types import Tensors

MAX_GRAMS = 512

_WORD = re.compile(r"\w+")

Row: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


class HashedNgrams:
    """``grams``: hashes of words, pairs of words and trigrams; 0 is padding.

    Args:
        buckets: hashes are in 1..buckets.
    """

    inputs: tuple[str, ...] = ("grams",)

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets

    def read(self, texts: Sequence[str]) -> Tensors:
        """See ``TextReader.read``; a text without a letter or digit is a single 0."""
        return {"grams": padded([self._of(text) for text in texts])}

    def _of(self, text: str) -> Row:
        words = _WORD.findall(text.lower())
        grams = [*words, *map(" ".join, pairwise(words))]
        for word in words:
            edged = f"<{word}>"
            grams += [edged[at : at + 3] for at in range(len(edged) - 2)]
        hashes = [zlib.crc32(gram.encode()) % self._buckets + 1 for gram in grams[:MAX_GRAMS]]
        return np.array(hashes or [0], np.int64)


def padded(rows: Sequence[Row]) -> Row:
    """Return rows of different lengths as one table, padded with 0 at the end."""
    table = np.zeros((len(rows), max(len(row) for row in rows)), np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
