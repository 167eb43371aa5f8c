"""From a prompt to the numbers that every head shares.

    prompt → Reading → form (hand-made) ┐
                     → meaning (static word vectors, averaged) ├→ dense (d,)
                     → terms (words and word pairs, tf-idf) ───┤→ terms (sparse)
                                        └→ latents (pretrained difficulty and subject) ┘

The word vectors are a sentence encoder's vectors of single words, reduced to few dimensions
(Model2Vec's idea, github.com/MinishLab/model2vec), averaged with weights a / (a + frequency)
(Arora et al., ICLR 2017). The latents are linear in form, meaning and terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from routing.features.text import NAMES, Reading, hand_made, read

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

UNKNOWN_BUCKETS: Final = 2_048
PAIR_BUCKETS: Final = 1 << 15
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_PAIR_SHIFT: Final = np.uint64(64 - 15)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt in numbers.

    Attributes:
        dense: shape (d,), standardised on the training prompts: form, meaning, latents.
        term_ids: shape (t,), distinct terms.
        term_values: shape (t,), their tf-idf, of Euclidean length 1.
        known_share: share of the prompt's words the encoder knows.
    """

    dense: Floats
    term_ids: Ints
    term_values: Floats
    known_share: float


@dataclass(frozen=True, slots=True)
class Encoder:
    """The shared features. Plain arrays, no state.

    Attributes:
        index: word to row.
        vectors: shape (v, k), int8; times ``scale`` gives the word vectors.
        scale: shape (k,).
        word_weight: shape (v,), the weight of each word in the average.
        idf: shape (terms,).
        latent_dense: shape (f + k, l); latents from form and meaning.
        latent_terms: shape (terms, l), float16; latents from terms.
        latent_names: what each latent stands for.
        mean: shape (d,), of the training prompts.
        inverse_std: shape (d,).
    """

    index: Mapping[str, int]
    vectors: NDArray[np.int8]
    scale: Floats
    word_weight: Floats
    idf: Floats
    latent_dense: Floats
    latent_terms: NDArray[np.float16]
    latent_names: tuple[str, ...]
    mean: Floats
    inverse_std: Floats

    @property
    def n_terms(self) -> int:
        """Size of the term space: known words, unknown-word buckets, word-pair buckets."""
        return len(self.index) + UNKNOWN_BUCKETS + PAIR_BUCKETS

    @property
    def dense_names(self) -> tuple[str, ...]:
        """A name for each position of ``Encoded.dense``."""
        meaning = tuple(f"meaning_{i}" for i in range(len(self.scale)))
        return NAMES + meaning + self.latent_names

    def encode(self, prompt: str) -> Encoded:
        """Encode one prompt."""
        reading = read(prompt)
        ids, known_share = self._word_ids(reading)
        base = np.concatenate((hand_made(reading), self._meaning(ids)))
        term_ids, values = self._terms(ids)
        if self.latent_names:
            base_z = (base - self.mean[: len(base)]) * self.inverse_std[: len(base)]
            latents = base_z @ self.latent_dense
            latents += values @ self.latent_terms[term_ids].astype(np.float32)
            tail = (latents - self.mean[len(base) :]) * self.inverse_std[len(base) :]
            dense = np.concatenate((base_z, tail))
        else:
            dense = (base - self.mean) * self.inverse_std
        np.clip(dense, -5.0, 5.0, out=dense)
        return Encoded(dense.astype(np.float32), term_ids, values, known_share)

    def _word_ids(self, reading: Reading) -> tuple[Ints, float]:
        """Rows of known words; unknown words get a bucket behind the vocabulary."""
        index, size, words = self.index, len(self.index), reading.words
        found = list(map(index.get, words))
        unknown = found.count(None)
        if unknown:
            found = [
                size + crc32(word.encode()) % UNKNOWN_BUCKETS if row is None else row
                for word, row in zip(words, found, strict=True)
            ]
        share = 1.0 - unknown / len(words) if words else 0.0
        return np.array(found, dtype=np.int64), share

    def _meaning(self, ids: Ints) -> Floats:
        known = ids[ids < len(self.index)]
        if not len(known):
            return np.zeros(len(self.scale), dtype=np.float32)
        weight = self.word_weight[known]
        rows = self.vectors[known].astype(np.float32)
        return (weight @ rows) * (self.scale / weight.sum())

    def _terms(self, ids: Ints) -> tuple[Ints, Floats]:
        if not len(ids):
            return ids, np.zeros(0, dtype=np.float32)
        left, right = ids[:-1].astype(np.uint64), ids[1:].astype(np.uint64)
        pairs = ((left << np.uint64(20)) + right + np.uint64(1)) * _MIX >> _PAIR_SHIFT
        offset = len(self.index) + UNKNOWN_BUCKETS
        terms = np.concatenate((ids, pairs.astype(np.int64) + offset))
        distinct, counts = np.unique(terms, return_counts=True)
        values = (1.0 + np.log(counts)) * self.idf[distinct]
        values /= np.sqrt(values @ values)
        return distinct, values.astype(np.float32)
