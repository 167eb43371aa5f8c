"""Reviews: a sentence or two on one topic, in one mood, with the odd word that misleads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runners.recipes.shop.data.vocabulary import ASIDES, BAD, FAIR, GOOD, NOUNS, STRONG, TOPICS

MOODS = ("negative", "neutral", "positive")
_NOISE = 0.04
_NOUNS = tuple(noun for kinds in NOUNS.values() for noun in kinds)


@dataclass(frozen=True, slots=True)
class Reviews:
    """Reviews, a row each: ``mood`` and ``topic`` are int64 [n]."""

    text: list[str]
    mood: np.ndarray
    topic: np.ndarray


def reviews(count: int, seed: int) -> Reviews:
    """Write ``count`` reviews; 4 in 100 have a label that their words don't bear out."""
    rng = np.random.default_rng([seed, 11])
    mood, topic = rng.integers(3, size=count), rng.integers(len(TOPICS), size=count)
    text = [_review(int(mood[i]), int(topic[i]), rng) for i in range(count)]
    wrong = rng.random((2, count)) < _NOISE
    return Reviews(
        text,
        np.where(wrong[0], rng.integers(3, size=count), mood),
        np.where(wrong[1], rng.integers(len(TOPICS), size=count), topic),
    )


def _review(mood: int, topic: int, rng: np.random.Generator) -> str:
    def one(words: tuple[str, ...]) -> str:
        return words[rng.integers(len(words))]

    subject = one(tuple(TOPICS.values())[topic])
    clause = f"{one(STRONG)} {_opinion(mood, one, rng)}".strip()
    forms = (
        f"the {subject} is {clause}",
        f"{clause} {subject}",
        f"{subject}: {clause}",
        f"my {one(_NOUNS)} arrived, the {subject} is {clause}",
        f"about the {subject} i can only say {clause}",
    )
    text = one(forms)
    if rng.random() < 0.5:
        text = f"{text}, {one(ASIDES)}" if rng.random() < 0.5 else f"{one(ASIDES)}, {text}"
    if rng.random() < 0.15:
        text += f" even if the {one(_NOUNS)} is {one(GOOD if mood == 0 else BAD)}"
    return text


def _opinion(mood: int, one: Callable[[tuple[str, ...]], str], rng: np.random.Generator) -> str:
    if mood == 1:
        return one(FAIR)
    plain, other = (BAD, GOOD) if mood == 0 else (GOOD, BAD)
    if rng.random() < 0.3:
        negation = ("not", "never", "far from", "anything but")[rng.integers(4)]
        return f"{negation} {one(other)}"
    return one(plain)
