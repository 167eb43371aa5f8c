"""The output of one sequence: tokens in, pieces out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runners.generation.detokenizer import Detokenizer
from runners.generation.stop_strings import StopStrings
from runners.generation.tokenizer import Tokenizer
from turnout.errors import InvalidRequest
from turnout.types import FinishReason, Generation, Piece, TokenChance

MAX_TOP_LOGPROBS = 20


class SequenceOutput:
    """Turns one sequence's tokens into pieces and knows when it ends.

    Args:
        generation: the request.
        tokenizer: decodes tokens and names the end tokens.
        prompt_tokens: length of the prompt.
        room: tokens that the context still holds; the answer ends with ``length`` after them.
        cached_tokens: tokens of the prompt that did not have to be read.
    """

    def __init__(
        self,
        generation: Generation,
        tokenizer: Tokenizer,
        prompt_tokens: int,
        room: int,
        cached_tokens: int = 0,
    ) -> None:
        self._ends = tokenizer.ends
        self._text = Detokenizer(tokenizer.decode)
        self._stop = StopStrings(generation.stop)
        self._limit = min(generation.max_tokens, room)
        self._prompt_tokens = prompt_tokens
        self._cached_tokens = cached_tokens
        self._count = 0

    def push(
        self, token: int, chance: TokenChance | None = None, *, complete: bool = False
    ) -> Piece:
        """Return the piece a new token adds; it has a finish reason when the answer ends with it.

        Args:
            token: the new token.
            chance: its probability, when logprobs are requested.
            complete: whether nothing may follow it.
        """
        if token in self._ends:
            return self._last(self._stop.push(self._text.flush()) + self._stop.flush(), "stop")
        self._count += 1
        logprobs = () if chance is None else (chance,)
        text = self._stop.push(self._text.push(token))
        if self._stop.stopped:
            return self._last(text, "stop", (token,), logprobs)
        if complete or self._count >= self._limit:
            text += self._stop.push(self._text.flush())
            reason: FinishReason = "stop" if complete or self._stop.stopped else "length"
            return self._last(text + self._stop.flush(), reason, (token,), logprobs)
        return Piece(text, (token,), logprobs)

    def _last(
        self,
        text: str,
        reason: FinishReason,
        tokens: tuple[int, ...] = (),
        logprobs: tuple[TokenChance, ...] = (),
    ) -> Piece:
        return Piece(
            text, tokens, logprobs, reason, self._prompt_tokens, self._count, self._cached_tokens
        )


def check(generation: Generation) -> None:
    """Refuse a generation that no engine can write.

    Raises:
        InvalidRequest: names the field.
    """
    if not generation.messages:
        raise InvalidRequest("messages is empty: give at least one", param="messages")
    if generation.max_tokens < 1:
        raise InvalidRequest(
            f"max_tokens must be at least 1, got {generation.max_tokens}", param="max_tokens"
        )
    if not (math.isfinite(generation.temperature) and generation.temperature >= 0):
        raise InvalidRequest(
            f"temperature must be 0 or more, got {generation.temperature}", param="temperature"
        )
    if not 0 < generation.top_p <= 1:
        raise InvalidRequest(
            f"top_p must be over 0 and at most 1, got {generation.top_p}", param="top_p"
        )
    if any(not stop for stop in generation.stop):
        raise InvalidRequest("a stop string is empty", param="stop")
    if generation.seed is not None and generation.seed < 0:
        raise InvalidRequest(f"seed must be 0 or more, got {generation.seed}", param="seed")
    if not 0 <= generation.top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(
            f"top_logprobs must be 0 to {MAX_TOP_LOGPROBS}, got {generation.top_logprobs}",
            param="top_logprobs",
        )


def check_context(tokens: Sequence[int], context_tokens: int) -> int:
    """Return the number of tokens that the context leaves for the answer.

    Raises:
        InvalidRequest: it leaves none, or the prompt is empty.
    """
    if not tokens:
        raise InvalidRequest("the prompt is empty", param="messages")
    room = context_tokens - len(tokens)
    if room < 1:
        raise InvalidRequest(
            f"the prompt takes {len(tokens)} tokens and the model's context is {context_tokens}, "
            f"with at least one for the answer: shorten it by {1 - room} tokens",
            param="messages",
        )
    return room
