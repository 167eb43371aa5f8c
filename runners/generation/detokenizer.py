"""Tokens to text, one at a time, without cutting a character in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\N{REPLACEMENT CHARACTER}"


# Not tokenizers.decoders.DecodeStream (0.23): it has no flush, so an answer that ends inside a
# character would lose its last bytes, and it takes a tokenizers.Tokenizer only.
class Detokenizer:
    """Decodes a growing list of tokens incrementally.

    A character may take several tokens, and a token's text may depend on the one before it
    (leading spaces). So the text since the last complete character is decoded again with each
    token, and held back while it ends in an incomplete character.

    Args:
        decode: a list of tokens to text; bytes that are no UTF-8 become U+FFFD.

    Source of the two offsets: Hugging Face text-generation-inference, ``decode_token``.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._written = 0

    def push(self, token: int) -> str:
        """Add a token and return the text it completes; may be empty."""
        self._tokens.append(token)
        before, now = self._texts()
        if now.endswith(_BROKEN) or len(now) <= len(before):
            return ""
        self._tokens = self._tokens[self._written :]
        self._written = len(self._tokens)
        return now[len(before) :]

    def flush(self) -> str:
        """Return the text held back, complete or not; no further token follows."""
        before, now = self._texts()
        self._tokens = []
        self._written = 0
        return now[len(before) :]

    def _texts(self) -> tuple[str, str]:
        return self._decode(self._tokens[: self._written]), self._decode(self._tokens)
