"""Guessing ahead without a model: what followed the last time the text went on as it does now.

Answers that repeat what they were given (an extraction, a rewritten paragraph, JSON with the same
keys again) are guessed well, anything else is not; a guess that fails costs the model's pass over
the tokens that were wrong, so guessing pauses after a few.
"""

from __future__ import annotations

from collections.abc import Sequence

_ENDS = (3, 2)
"""How many last tokens must have stood together before, the longest first."""
_MISSES, _PAUSE = 3, 16


class PromptLookup:
    """Proposes the next tokens of one sequence.

    Args:
        prompt: its tokens so far.
        most: the most tokens proposed at once.

    Source: Yang et al., Inference with Reference, 2023; Saxena, Prompt Lookup Decoding, 2023.
    """

    def __init__(self, prompt: Sequence[int], most: int) -> None:
        self._most = most
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._missed = self._pause = 0
        for token in prompt:
            self.push(token)

    def push(self, token: int) -> None:
        """One more token has been written."""
        place = len(self._tokens)
        for size in _ENDS:
            if place >= size:
                self._after[tuple(self._tokens[-size:])] = place
        self._tokens.append(token)

    def propose(self, room: int) -> list[int]:
        """The tokens that may come next, at most ``room`` of them; none while guesses fail."""
        if self._pause:
            self._pause -= 1
            return []
        guess: list[int] = []
        end = self._tokens[-_ENDS[0] :]
        while len(guess) < min(self._most, room) and (token := self._next(end)) is not None:
            guess.append(token)
            end = [*end, token][-_ENDS[0] :]
        return guess

    def _next(self, end: Sequence[int]) -> int | None:
        for size in _ENDS:
            place = self._after.get(tuple(end[-size:]))
            if place is not None:
                return self._tokens[place]
        return None

    def told(self, right: int) -> None:
        """So many tokens of the last proposal were right."""
        self._missed = 0 if right else self._missed + 1
        if self._missed == _MISSES:
            self._missed, self._pause = 0, _PAUSE
