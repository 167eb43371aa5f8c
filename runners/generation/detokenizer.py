"""Tokens to text, one at a time, without ever cutting a character in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Writes the text of a growing list of tokens.

    A character may take several tokens, and a token's text may depend on the one before it
    (leading spaces). So the text since the last complete character is decoded again with each
    token, and held back while its end is no complete character.

    Args:
        decode: a list of tokens to text; bytes that are no UTF-8 become U+FFFD.

    Source of the two offsets: Hugging Face text-generation-inference, ``decode_token``.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._written = 0

    def push(self, token: int) -> str:
        """The text that is complete now and was not before; may be empty."""
        self._tokens.append(token)
        before, now = self._texts()
        if now.endswith(_BROKEN) or len(now) <= len(before):
            return ""
        self._tokens = self._tokens[self._written :]
        self._written = len(self._tokens)
        return now[len(before) :]

    def flush(self) -> str:
        """What was held back, broken or not: no further token will complete it."""
        before, now = self._texts()
        self._tokens = []
        self._written = 0
        return now[len(before) :]

    def _texts(self) -> tuple[str, str]:
        return self._decode(self._tokens[: self._written]), self._decode(self._tokens)
