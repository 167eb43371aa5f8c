"""From a prompt to the numbers that every head shares.

    prompt → Reading → form (hand-made) ────────────────────┐
                     → wording (rare words, how alike the   ├→ dense (d,)
                       answer options are)                  │
                     → meaning (static word vectors of stem ┘
                       and options, averaged)
                     → terms (words and word pairs, tf-idf) ─→ term ids and values
    form, wording, meaning → factors (k,): what the pretrained pool found easy

The word vectors are a sentence encoder's vectors of single words, reduced to few dimensions
(Model2Vec's idea, github.com/MinishLab/model2vec), averaged with weights that fall with a
word's frequency (Arora et al., ICLR 2017).
"""

from __future__ import annotations

import itertools
import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from routing.features import text
from routing.features.text import Reading, hand_made, read
from routing.quality.factors import Factors, standardise

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

UNKNOWN_BUCKETS: Final = 2_048
PAIR_BUCKETS: Final = 1 << 15
RARE: Final = 9.0
VERY_RARE: Final = 10.0
FREQUENT: Final = 5.0
NEAR: Final = 32
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_PAIR_SHIFT: Final = np.uint64(64 - 15)
WORDING: Final = (
    "rarity",
    "rare_words",
    "very_rare_words",
    "frequent_words",
    "rarest_five",
    "rarest",
    "stem_rarity",
    "stem_rare_words",
    "stem_rarest_three",
    "unknown_words",
    "distinct_rare_words",
    "options_alike",
    "options_most_alike",
    "options_least_alike",
    "options_near_stem",
    "nearest_option_stands_out",
    "options_near_stem_spread",
    "nearest_option_at",
    "stem_focus",
)


class Vocabulary(dict[str, int]):
    """Word to row; an unknown word gets one of the buckets behind the rows."""

    def __init__(self, words: Iterable[str]) -> None:
        """Rows in the order of the words."""
        super().__init__((word, row) for row, word in enumerate(words))

    def __missing__(self, word: str) -> int:
        """The bucket of a word that has no row."""
        return len(self) + crc32(word.encode()) % UNKNOWN_BUCKETS


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt in numbers.

    Attributes:
        dense: shape (d,): form and wording standardised, meaning scaled as a whole, the leading
            ``NEAR`` dimensions of stem and options first: likeness looks at these alone.
        factors: shape (k,), from ``Encoder.factors``; empty where there are none.
        term_ids: shape (t,), distinct terms; empty when terms were not asked for.
        term_values: shape (t,), their tf-idf, of Euclidean length 1.
        known_share: share of the prompt's words the encoder knows.
    """

    dense: Floats
    factors: Floats
    term_ids: Ints
    term_values: Floats
    known_share: float


@dataclass(frozen=True, slots=True)
class Encoder:
    """The shared features. Plain arrays, no state.

    Attributes:
        index: word to row, or to a bucket behind the rows.
        vectors: shape (v, k), int8; times ``scale`` gives the word vectors.
        scale: shape (k,).
        rarity: shape (v,), log-rank of a word's frequency, in [0, 11].
        idf: shape (terms,).
        mean: shape (d,), of the training prompts.
        inverse_std: shape (d,).
        factors: pretrained on a pool of models; None in an encoder that has no pool behind it.
        commonness: shape (v, 2), rarity beside the weight of a word in an average, which is near 0
            for the few hundred most frequent: one access to memory for both.
    """

    index: Vocabulary
    vectors: NDArray[np.int8]
    scale: Floats
    rarity: Floats
    idf: Floats
    mean: Floats
    inverse_std: Floats
    factors: Factors | None = None
    commonness: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Weights follow from rarity."""
        weight = 1.0 / (1.0 + np.exp((6.5 - self.rarity) * 1.2))
        both = np.stack((self.rarity, weight), axis=1, dtype=np.float32)
        object.__setattr__(self, "commonness", both)

    @property
    def n_factors(self) -> int:
        """How many factors the pretrained pool gives."""
        return 0 if self.factors is None else len(self.factors.bias)

    @property
    def n_form(self) -> int:
        """How many of the dense features are of form and wording; the rest is meaning."""
        return len(text.NAMES) + len(WORDING)

    @property
    def n_kernel(self) -> int:
        """How many of the leading dense features likeness looks at."""
        return self.n_form + 2 * min(NEAR, len(self.scale))

    @property
    def unknown_column(self) -> int:
        """Where in the raw features the share of unknown words stands."""
        return len(text.NAMES) + WORDING.index("unknown_words")

    @property
    def n_terms(self) -> int:
        """Size of the term space: known words, unknown-word buckets, word-pair buckets."""
        return len(self.index) + UNKNOWN_BUCKETS + PAIR_BUCKETS

    @property
    def dense_names(self) -> tuple[str, ...]:
        """A name for each position of ``Encoded.dense``."""
        k = range(len(self.scale))
        stem, options = [f"stem_meaning_{i}" for i in k], [f"option_meaning_{i}" for i in k]
        meaning = (*stem[:NEAR], *options[:NEAR], *stem[NEAR:], *options[NEAR:])
        return (*text.NAMES, *WORDING, *meaning)

    def encode(self, prompt: str, *, terms: bool = True) -> Encoded:
        """Encode one prompt; without ``terms`` it costs less."""
        reading = read(prompt)
        ids, known = self.word_ids(reading)
        raw = self.raw(reading, ids)
        dense = standardise(raw, self.mean, self.inverse_std)
        factors = self.scale[:0] if self.factors is None else self.factors.of(raw)
        term_ids, values = self.terms(ids) if terms else (ids[:0], self.scale[:0])
        return Encoded(dense, factors, term_ids, values, known)

    def raw(self, reading: Reading, ids: Ints) -> Floats:
        """Form, wording and meaning before standardisation, shape (d,)."""
        form = hand_made(reading)
        wording = np.zeros(len(WORDING), dtype=np.float32)
        sizes, known = (reading.stem_words, *reading.option_words), ids
        positions = np.flatnonzero(ids < len(self.index))
        if len(positions) < len(ids):
            known = ids[positions]
            upto = np.searchsorted(positions, list(itertools.accumulate(sizes))).tolist()
            sizes = tuple(map(operator.sub, upto, (0, *upto)))
        wording[9] = 1.0 - len(known) / (len(ids) + 1.0)
        if not len(known):
            return np.concatenate((form, wording, np.zeros(2 * len(self.scale), dtype=np.float32)))
        rarity, weight = self.commonness[known].T
        _rarity_features(rarity, sizes[0], known, wording)
        stem, options = self._meaning(known, weight, sizes, wording)
        wording[18] = math.sqrt(stem @ stem)
        near = (stem[:NEAR], options[:NEAR])
        return np.concatenate((form, wording, *near, stem[NEAR:], options[NEAR:]))

    def _meaning(
        self, known: Ints, weight: Floats, sizes: tuple[int, ...], wording: Floats
    ) -> tuple[Floats, Floats]:
        """Mean vectors of the stem's and of the options' words, each of shape (k,).

        Args:
            known: rows of the known words, in order.
            weight: of each of them.
            sizes: how many of them belong to the stem and to each option.
            wording: how alike the options are is written here.
        """
        vectors = self.vectors[known].astype(np.float32)
        n, start = len(known), sizes[0]
        shares = np.zeros((len(sizes) + 1, n), dtype=np.float32)
        shares[0, :start] = weight[:start]
        shares[1, start:] = weight[start:]
        for row, size in enumerate(sizes[1:], start=2):
            shares[row, start : start + size] = weight[start : start + size]
            start += size
        sums = (shares @ vectors) * self.scale
        of_stem, of_options = shares[:2].sum(axis=1).tolist()
        stem, options = sums[0] / (of_stem + 1e-6), sums[1] / max(of_options, 1e-6)
        if len(sizes) > 1:
            _likeness_features(sums[2:], stem, wording)
        return stem, options

    def word_ids(self, reading: Reading) -> tuple[Ints, float]:
        """Rows of known words; unknown words get a bucket behind the vocabulary."""
        words = reading.words
        ids = np.fromiter(map(self.index.__getitem__, words), np.int64, len(words))
        known = int(np.count_nonzero(ids < len(self.index)))
        return ids, known / len(words) if words else 0.0

    def terms(self, ids: Ints) -> tuple[Ints, Floats]:
        """Distinct terms of a prompt and their tf-idf."""
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


def _rarity_features(rarity: Floats, in_stem: int, known: Ints, out: Floats) -> None:
    n = len(rarity)
    ordered: list[float] = np.sort(rarity).tolist()
    n_rare = n - bisect_right(ordered, RARE)
    out[0] = sum(ordered) / n
    out[1] = n_rare / n
    out[2] = 1.0 - bisect_right(ordered, VERY_RARE) / n
    out[3] = bisect_left(ordered, FREQUENT) / n
    out[4], out[5] = sum(ordered[-5:]) / min(n, 5), ordered[-1]
    if in_stem:
        stem = ordered if in_stem == n else np.sort(rarity[:in_stem]).tolist()
        out[6] = sum(stem) / in_stem
        out[7] = 1.0 - bisect_right(stem, RARE) / in_stem
        out[8] = sum(stem[-3:]) / min(in_stem, 3)
    out[10] = math.log1p(len(set(known[rarity > RARE].tolist()))) if n_rare else 0.0


@cache
def _below_diagonal(n: int) -> Ints:
    """Flat positions below the diagonal of a matrix of shape (n, n)."""
    row, column = np.tril_indices(n, -1)
    return row * n + column


def _likeness_features(options: Floats, stem: Floats, out: Floats) -> None:
    """Cosines between the options' vectors, shape (n, k), and with the stem's, shape (k,)."""
    n = len(options)
    inner = options @ options.T
    inverse = 1.0 / (np.sqrt(inner.diagonal()) + 1e-6)
    inner *= inverse
    inner *= inverse[:, None]
    pairs: list[float] = inner.take(_below_diagonal(n)).tolist()
    out[11], out[12], out[13] = sum(pairs) / len(pairs), max(pairs), min(pairs)
    inverse *= 1.0 / (math.sqrt(stem @ stem) + 1e-6)
    near: list[float] = (options @ stem * inverse).tolist()
    mean, nearest = sum(near) / n, max(near)
    out[14], out[15] = mean, nearest - mean
    out[16] = math.sqrt(sum((x - mean) ** 2 for x in near) / n)
    out[17] = near.index(nearest) / n
