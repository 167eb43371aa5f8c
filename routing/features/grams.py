"""Character n-grams of a prompt: every run of one to four characters, hashed to buckets.

They carry what words hide: numerals, units, formulae, endings, names in pieces. Those of the answer
options are kept apart from those of the stem. Pure functions of the text; nothing is learned.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.features.text import Reading

BUCKETS: Final = 1 << 15
LONGEST: Final = 4
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(64 - 15)
_BASE: Final = np.uint64(257)
_ONE: Final = np.uint64(1)
_OF_STEM: Final = np.uint64(0)
_OF_OPTIONS: Final = np.uint64(7)


def grams(reading: Reading) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the distinct buckets of a prompt's n-grams, and 1 + ln(count) of each.

    Characters of any script; case and the kind of white space make no difference.

    Returns:
        two arrays of shape (g,); the first rises.
    """
    split, text = reading.stem_chars, reading.text
    hashes = _hashed(text[:split], _OF_STEM) + _hashed(text[split:], _OF_OPTIONS)
    if not hashes:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    ids, counts = np.unique(np.concatenate(hashes) * _MIX >> _SHIFT, return_counts=True)
    return ids.astype(np.int64), (1.0 + np.log(counts)).astype(np.float32)


def _hashed(part: str, salt: np.uint64) -> list[NDArray[np.uint64]]:
    """Return polynomial hashes of all runs of each length, between spaces at both ends."""
    words = part.lower().split()
    if not words:
        return []
    points = f" {' '.join(words)} ".encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(points, dtype=np.uint32).astype(np.uint64) + _ONE
    rolling = np.full(len(codes), salt, dtype=np.uint64)
    hashes: list[NDArray[np.uint64]] = []
    for length in range(1, min(LONGEST, len(codes)) + 1):
        rolling = rolling[: len(codes) - length + 1] * _BASE + codes[length - 1 :]
        hashes.append(rolling)
    return hashes
