"""Simulate reviews: a sentence or two on one topic, in one mood, sometimes misleading."""

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
    """Reviews, one per row; ``mood`` and ``topic`` are int64 [n]."""

    text: list[str]
    mood: np.ndarray
    topic: np.ndarray


def reviews(count: int, seed: int) -> Reviews:
    """Return ``count`` reviews; the labels of 4 in 100 are random."""
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
    def pick(words: tuple[str, ...]) -> str:
        return words[rng.integers(len(words))]

    subject = pick(tuple(TOPICS.values())[topic])
    clause = f"{pick(STRONG)} {_opinion(mood, pick, rng)}".strip()
    forms = (
        f"the {subject} is {clause}",
        f"{clause} {subject}",
        f"{subject}: {clause}",
        f"my {pick(_NOUNS)} arrived, the {subject} is {clause}",
        f"about the {subject} i can only say {clause}",
    )
    text = pick(forms)
    if rng.random() < 0.5:
        text = f"{text}, {pick(ASIDES)}" if rng.random() < 0.5 else f"{pick(ASIDES)}, {text}"
    if rng.random() < 0.15:
        text += f" even if the {pick(_NOUNS)} is {pick(GOOD if mood == 0 else BAD)}"
    return text


def _opinion(mood: int, pick: Callable[[tuple[str, ...]], str], rng: np.random.Generator) -> str:
    if mood == 1:
        return pick(FAIR)
    plain, other = (BAD, GOOD) if mood == 0 else (GOOD, BAD)
    if rng.random() < 0.3:
        negation = ("not", "never", "far from", "anything but")[rng.integers(4)]
        return f"{negation} {pick(other)}"
    return pick(plain)
