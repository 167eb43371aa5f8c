"""Keys by which prompts are recognised."""

from __future__ import annotations

import string
import unicodedata
from functools import cache
from hashlib import blake2b
from typing import Final

from routing.features.text import OPTION

MAX_CHARS: Final = 4_000
LEAST_CHARS: Final = 20
LEAST_STEM_CHARS: Final = 60
NO_KEY: Final = 0
_HALF: Final = MAX_CHARS // 2


def normalised(prompt: str) -> str:
    """Return a prompt without case and spacing: equal for copies under other ids."""
    return " ".join(prompt.lower().split())


def question_key(prompt: str) -> int:
    """Return 64 bits that copies of a question share, whatever case, spacing and punctuation.

    Arithmetic operators are not punctuation: "12 + 7" and "12 - 7" are two questions.
    """
    return _hash(normalised(prompt.translate(_punctuation())))


def prompt_key(prompt: str) -> int:
    """Return 64 bits by which a pool recognises a prompt, whatever its case.

    A multiple-choice question is recognised by its stem, if that is long enough to stand alone: a
    copy that offers other options is the same question. Of a prompt over ``MAX_CHARS`` characters
    the beginning, the end and the length count. Prompts under ``LEAST_CHARS`` characters ("go on")
    are ambiguous: ``NO_KEY``.
    """
    text = prompt.strip()
    if len(text) > MAX_CHARS:
        text = f"{text[:_HALF]}{len(text)}{text[-_HALF:]}"
    stem = _stem(text).lower()
    return NO_KEY if len(stem) < LEAST_CHARS else _hash(stem)


@cache
def _punctuation() -> dict[int, str]:
    """Return a translation of punctuation to spaces; built at first use: serving needs none."""
    return {
        point: " "
        for point in range(0x10000)
        if unicodedata.category(chr(point))[0] == "P" and chr(point) not in "-*/%"
    }


def _hash(text: str) -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _stem(text: str) -> str:
    """Return the text before the answer options, where one list of them ends the text."""
    marks = list(OPTION.finditer(text))
    letters = "".join(mark[1] for mark in marks)
    if len(marks) < 2 or letters != string.ascii_uppercase[: len(letters)]:
        return text
    stem, last = text[: marks[0].start()].rstrip(), text[marks[-1].end() :]
    only_an_answer_follows = len(last.split("\n")) <= 2
    return stem if only_an_answer_follows and len(stem) >= LEAST_STEM_CHARS else text
