"""Encoder of prompts into the features that every head shares.

    prompt → Reading → form (hand-made) ────────────────────┐
                     → wording (rare words, how alike the   ├→ dense (d,)
                       answer options are)                  │
                     → meaning (static word vectors of stem ┘
                       and options, averaged)
                     → grams (runs of characters) ─→ gram ids and values
    form, wording, meaning → factors (k,): how easy the prompt is for the pretrained
    the prompt's key         pool, and the pool's own results on it if it was scored

The word vectors are a sentence encoder's vectors of single words, reduced to few dimensions
(Model2Vec's idea, github.com/MinishLab/model2vec), averaged with weights that fall with a
word's frequency (Arora et al., ICLR 2017).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from routing.features import text
from routing.features.grams import grams
from routing.features.text import Reading, form_values, read
from routing.quality.factors import Factors, standardise

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

UNKNOWN_BUCKETS: Final = 2_048
RARE: Final = 9.0
VERY_RARE: Final = 10.0
FREQUENT: Final = 5.0
NOT_KNOWN: Final = -1.0
NEAR: Final = 32
TIED: Final = 1e-5
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
    """Maps a word to its row; an unknown word gets one of the buckets behind the rows."""

    def __init__(self, words: Iterable[str]) -> None:
        """Number the words in order."""
        super().__init__((word, row) for row, word in enumerate(words))

    def __missing__(self, word: str) -> int:
        """Return the bucket of a word that has no row."""
        return len(self) + crc32(word.encode()) % UNKNOWN_BUCKETS


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt in numbers.

    Attributes:
        dense: shape (d,): form and wording standardised, meaning scaled as a whole, the leading
            ``NEAR`` dimensions of stem and options first: likeness looks at these alone.
        factors: shape (k,), from ``Encoder.factors``; empty where there are none.
        gram_ids: shape (g,), distinct n-grams; empty when they were not requested.
        gram_values: shape (g,), 1 + ln(count) of each (``routing/features/grams.py``).
        known_share: share of the prompt's words the encoder knows.
    """

    dense: Floats
    factors: Floats
    gram_ids: Ints
    gram_values: Floats
    known_share: float


@dataclass(frozen=True, slots=True)
class Encoder:
    """The shared features. Plain arrays, no state.

    Attributes:
        index: word to row, or to a bucket behind the rows.
        vectors: shape (v, k), int8; times ``scale`` gives the word vectors.
        scale: shape (k,).
        rarity: shape (v,), log-rank of a word's frequency, in [0, 11].
        mean: shape (d,), of the training prompts.
        inverse_std: shape (d,).
        factors: pretrained on a pool of models; None in an encoder that has no pool behind it.
        commonness: shape (v + buckets, 2), rarity beside the weight of a word in an average, which
            is near 0 for the few hundred most frequent: one access to memory for both. An unknown
            word has rarity ``NOT_KNOWN`` and no weight, so that nothing need be taken out.
    """

    index: Vocabulary
    vectors: NDArray[np.int8]
    scale: Floats
    rarity: Floats
    mean: Floats
    inverse_std: Floats
    factors: Factors | None = None
    commonness: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute the words' weights from their rarity."""
        weight = 1.0 / (1.0 + np.exp((6.5 - self.rarity) * 1.2))
        common = np.stack((self.rarity, weight), axis=1, dtype=np.float32)
        unknown = np.full((UNKNOWN_BUCKETS, 2), (NOT_KNOWN, 0.0), dtype=np.float32)
        object.__setattr__(self, "commonness", np.concatenate((common, unknown)))

    @property
    def n_factors(self) -> int:
        """Number of factors that the pretrained pool gives."""
        return 0 if self.factors is None else self.factors.width

    @property
    def n_smooth(self) -> int:
        """Number of factors that every prompt has; the others are the pool's memory."""
        return 0 if self.factors is None else self.factors.smooth

    @property
    def n_form(self) -> int:
        """Number of dense features of form and wording; the rest is meaning."""
        return len(text.NAMES) + len(WORDING)

    @property
    def n_kernel(self) -> int:
        """Number of leading dense features that likeness is computed from."""
        return self.n_form + 2 * min(NEAR, len(self.scale))

    @property
    def unknown_column(self) -> int:
        """Position of the share of unknown words in the raw features."""
        return len(text.NAMES) + WORDING.index("unknown_words")

    @property
    def dense_names(self) -> tuple[str, ...]:
        """A name for each position of ``Encoded.dense``."""
        k = range(len(self.scale))
        stem, options = [f"stem_meaning_{i}" for i in k], [f"option_meaning_{i}" for i in k]
        meaning = (*stem[:NEAR], *options[:NEAR], *stem[NEAR:], *options[NEAR:])
        return (*text.NAMES, *WORDING, *meaning)

    def encode(self, prompt: str, *, with_grams: bool = True) -> Encoded:
        """Encode one prompt; without n-grams it costs less."""
        reading = read(prompt)
        ids, known_share = self.word_ids(reading)
        raw = self.raw(reading, ids)
        dense = standardise(raw, self.mean, self.inverse_std)
        factors = self.scale[:0] if self.factors is None else self.factors.of(raw, prompt)
        gram_ids, values = grams(reading) if with_grams else (ids[:0], self.scale[:0])
        return Encoded(dense, factors, gram_ids, values, known_share)

    def raw(self, reading: Reading, ids: Ints) -> Floats:
        """Return form, wording and meaning before standardisation, shape (d,).

        Rows are gathered by ``take``: indexing with an array costs twice as much for so few.
        """
        rarity, weight = self.commonness.take(ids, axis=0).T
        wording = [0.0] * len(WORDING)
        _rarity_features(rarity, reading.stem_words, ids, wording)
        means = self._meaning(reading, ids, weight, wording)
        return np.concatenate(
            (
                np.array(form_values(reading) + wording, dtype=np.float32),
                means[:, :NEAR].ravel(),
                means[:, NEAR:].ravel(),
            )
        )

    def _meaning(self, reading: Reading, ids: Ints, weight: Floats, wording: list[float]) -> Floats:
        """Return mean vectors of the stem's and of the options' words, shape (2, k).

        Args:
            reading: gives the number of words in the stem and in each option.
            ids: rows of the words, in order.
            weight: of each of them.
            wording: receives the features of the options' likeness.
        """
        vectors = self.vectors.take(ids, axis=0, mode="clip").astype(np.float32)
        n, end = len(reading.option_words), reading.stem_words
        weights: list[float] = weight.tolist()
        shares = np.zeros((n + 2, len(ids)), dtype=np.float32)
        np.multiply(weight[:end], 1.0 / (sum(weights[:end]) + 1e-6), out=shares[n, :end])
        np.multiply(weight[end:], 1.0 / max(sum(weights[end:]), 1e-6), out=shares[n + 1, end:])
        for row, size in enumerate(reading.option_words):
            start, end = end, end + size
            shares[row, start:end] = weight[start:end]
        sums = (shares @ vectors) * self.scale
        _likeness_features(sums[: n + 1], wording)
        return sums[n:]

    def word_ids(self, reading: Reading) -> tuple[Ints, float]:
        """Return the words' rows (unknown words get a bucket) and the share of known words."""
        words = reading.words
        ids = np.fromiter(map(self.index.__getitem__, words), np.int64, len(words))
        n_known = int(np.count_nonzero(ids < len(self.index)))
        return ids, n_known / len(words) if words else 0.0


def _rarity_features(rarity: Floats, in_stem: int, ids: Ints, out: list[float]) -> None:
    """Write features of the words' rarity; the first ``in_stem`` words are the stem's."""
    ordered = _known_in_order(rarity)
    n = len(ordered)
    out[9] = 1.0 - n / (len(rarity) + 1.0)
    if not n:
        return
    n_rare = n - bisect_right(ordered, RARE)
    out[0] = sum(ordered) / n
    out[1] = n_rare / n
    out[2] = 1.0 - bisect_right(ordered, VERY_RARE) / n
    out[3] = bisect_left(ordered, FREQUENT) / n
    out[4], out[5] = sum(ordered[-5:]) / min(n, 5), ordered[-1]
    if n_rare:
        out[10] = math.log1p(len(set(ids.compress(rarity > RARE).tolist())))
    stem = ordered if in_stem == len(rarity) else _known_in_order(rarity[:in_stem])
    if m := len(stem):
        out[6] = sum(stem) / m
        out[7] = 1.0 - bisect_right(stem, RARE) / m
        out[8] = sum(stem[-3:]) / min(m, 3)


def _known_in_order(rarity: Floats) -> list[float]:
    """Return the rarities of the known words, rising: unknown ones sort first and are cut."""
    ordered = rarity.copy()
    ordered.sort()
    rarities: list[float] = ordered.tolist()
    return rarities[bisect_right(rarities, NOT_KNOWN) :]


@cache
def _below_diagonal(n: int) -> Ints:
    """Return the flat positions below the diagonal of a matrix of shape (n, n)."""
    row, column = np.tril_indices(n, -1)
    return row * n + column


def _likeness_features(vectors: Floats, out: list[float]) -> None:
    """Write features of the cosines between options, and with the stem, which is the last row."""
    n = len(vectors) - 1
    inner = vectors @ vectors.T
    if not n:
        out[18] = math.sqrt(inner.item())
        return
    lengths = np.sqrt(inner.diagonal())
    out[18] = lengths.item(n)
    lengths += 1e-6
    inner /= lengths
    inner /= lengths[:, None]
    cosines: list[float] = inner.take(_below_diagonal(n + 1)).tolist()
    pairs, near = cosines[:-n], cosines[-n:]
    out[11], out[12], out[13] = sum(pairs) / len(pairs), max(pairs), min(pairs)
    mean, nearest = sum(near) / n, max(near)
    out[14], out[15] = mean, nearest - mean
    out[16] = math.dist(near, [mean] * n) / math.sqrt(n)
    out[17] = next(i for i, x in enumerate(near) if nearest - x < TIED) / n
