"""A number by which a prompt is recognised."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

MAX_CHARS: Final = 4_000
_HALF: Final = MAX_CHARS // 2
_OPTION: Final = re.compile(r"\n\s*\(?[A-J][.):]\s")
_NOT_WORDS: Final = bytes(b for b in range(128) if not chr(b).isalnum())


def prompt_key(prompt: str) -> int:
    """64 bits that copies of a prompt share: without case, spacing, punctuation, answer options.

    Copies of a question that offer other options are the same question. Of a prompt over
    ``MAX_CHARS`` characters the beginning, the end and the length count.
    """
    text = prompt
    if len(text) > MAX_CHARS:
        text = f"{text[:_HALF]}{len(text)}{text[-_HALF:]}"
    parts = _OPTION.split(text, maxsplit=2)
    stem = parts[0] if len(parts) > 2 else text
    words = stem.lower().encode("utf-8", "surrogatepass").translate(None, _NOT_WORDS)
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "little")
