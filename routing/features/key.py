"""A number by which a prompt is recognised."""

from __future__ import annotations

import re
import string
from hashlib import blake2b
from typing import Final

from routing.features.text import OPTION

MAX_CHARS: Final = 4_000
LEAST_CHARS: Final = 20
LONG_STEM_CHARS: Final = 60
LEAST_WORDS: Final = 3
NO_KEY: Final = 0
_HALF: Final = MAX_CHARS // 2
_WORD: Final = re.compile(r"\w+")
_ANY_QUESTION: Final = """
a an and answer are as at be best by choose correct does except false following for from how in
incorrect is it most not of on one option or question select statement statements that the these
this to true what when where which who why with
"""
_SAY_NOTHING: Final = frozenset(_ANY_QUESTION.split())


def prompt_key(prompt: str) -> int:
    """64 bits that copies of a prompt share, whatever their case.

    A multiple-choice question is known by its stem, if that says enough to stand alone: a copy
    that offers other options is the same question, "which of the following is true?" is not. Of a
    prompt over ``MAX_CHARS`` characters the beginning, the end and the length count. Prompts under
    ``LEAST_CHARS`` characters ("go on") say too little by themselves: ``NO_KEY``.
    """
    text = prompt.strip()
    if len(text) > MAX_CHARS:
        text = f"{text[:_HALF]}{len(text)}{text[-_HALF:]}"
    known = _stem(text).lower()
    if len(known) < LEAST_CHARS:
        return NO_KEY
    digest = blake2b(known.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _stem(text: str) -> str:
    """What comes before the answer options, where one list of them, A to its end, ends the text."""
    marks = list(OPTION.finditer(text))
    letters = "".join(mark[1] for mark in marks)
    if len(marks) < 2 or letters != string.ascii_uppercase[: len(letters)]:
        return text
    stem, last = text[: marks[0].start()], text[marks[-1].end() :]
    only_an_answer_follows = len(last.split("\n")) <= 2
    return stem if only_an_answer_follows and _stands_alone(stem) else text


def _stands_alone(stem: str) -> bool:
    """Whether a stem names what it asks about."""
    if len(stem) >= LONG_STEM_CHARS:
        return True
    told = {*_WORD.findall(stem.lower())} - _SAY_NOTHING
    return len(stem) >= LEAST_CHARS and len(told) >= LEAST_WORDS
