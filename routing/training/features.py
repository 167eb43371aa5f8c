"""The shared features of many prompts, fitted to a training set."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from routing.features.grams import BUCKETS, grams
from routing.features.key import prompt_key
from routing.features.text import read
from routing.quality.encoder import Encoder
from routing.quality.factors import standardise
from routing.training.kernel import likeness

Floats = NDArray[np.float32]
PRIOR_PROMPTS: Final = 200
MEANING_NORM: Final = 9.0
LEAST_SPREAD: Final = 1e-3
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Design:
    """Features of n prompts, as every training step needs them.

    Attributes:
        raw: shape (n, d), before standardisation.
        grams: sparse, shape (n, ``BUCKETS``), counts of ``routing.features.grams``.
        keys: of the prompts, from ``prompt_key``.
    """

    raw: Floats
    grams: sp.csr_matrix
    keys: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.raw)

    def dense(self, encoder: Encoder) -> Floats:
        """Return the dense features of ``Encoder.encode``, shape (n, d)."""
        return standardise(self.raw, encoder.mean, encoder.inverse_std)

    def factors(self, encoder: Encoder) -> Floats:
        """Return the factors of ``Encoder.encode``, shape (n, k)."""
        pool = encoder.factors
        if pool is None:
            return np.zeros((len(self.raw), 0), dtype=np.float32)
        near = likeness(pool.landmarks, standardise(self.raw, pool.mean, pool.inverse_std))
        memory = np.stack([pool.memory.by_key(key) for key in self.keys])
        return np.concatenate((near @ pool.weights + pool.bias, memory), axis=1)


def design(encoder: Encoder, prompts: Sequence[str]) -> Design:
    """Compute the features of every prompt."""
    raw = np.empty((len(prompts), len(encoder.dense_names)), dtype=np.float32)
    ids: list[NDArray[np.int64]] = []
    values: list[Floats] = []
    for row, prompt in enumerate(prompts):
        reading = read(prompt)
        word_ids, _ = encoder.word_ids(reading)
        raw[row] = encoder.raw(reading, word_ids)
        gram_ids, weight = grams(reading)
        ids.append(gram_ids)
        values.append(weight)
    starts = np.cumsum([0, *map(len, ids)])
    shape = (len(prompts), BUCKETS)
    counted = sp.csr_matrix((np.concatenate(values), np.concatenate(ids), starts), shape=shape)
    return Design(raw, counted, tuple(map(prompt_key, prompts)))


def standardised(encoder: Encoder, raw: Floats) -> Encoder:
    """Return the encoder with means and spreads of these prompts.

    Form and wording are standardised one by one, drawn to the encoder's present spread as if by
    ``PRIOR_PROMPTS`` prompts, so that a feature that happens to be constant in a small table does
    not explode later. Meaning is scaled as a whole: its directions keep their relative spread; in
    scripts whose words have no vectors there is none.
    """
    names, n = encoder.dense_names, len(raw)
    stem_columns = [i for i, name in enumerate(names) if name.startswith("stem_meaning")]
    option_columns = [i for i, name in enumerate(names) if name.startswith("option_meaning")]
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    before = 1.0 / encoder.inverse_std
    pooled = np.sqrt((n * spread**2 + PRIOR_PROMPTS * before**2) / (n + PRIOR_PROMPTS))
    pooled += LEAST_SPREAD
    stem = raw[:, stem_columns]
    length = np.sqrt((stem**2).sum(axis=1).mean())
    pooled[encoder.n_form :] = max(length / MEANING_NORM, LEAST_SPREAD)
    mean[option_columns] = 0.0
    return replace(
        encoder,
        mean=mean.astype(np.float32),
        inverse_std=(1.0 / pooled).astype(np.float32),
    )
