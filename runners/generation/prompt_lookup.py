"""Drafts tokens without a model: those that followed the last occurrence of the latest tokens.

Answers that repeat their prompt (an extraction, a rewritten paragraph, JSON with the same keys
again) are drafted well, others are not. A rejected draft costs the model's pass over the wrong
tokens, so drafting pauses after a few rejections.
"""

from __future__ import annotations

from collections.abc import Sequence

_ENDS = (3, 2)
"""Numbers of latest tokens that are looked up, the longest first."""
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
        """Add a token of the sequence."""
        place = len(self._tokens)
        for size in _ENDS:
            if place >= size:
                self._after[tuple(self._tokens[-size:])] = place
        self._tokens.append(token)

    def propose(self, room: int) -> list[int]:
        """Return at most ``room`` tokens that may come next; none while drafting pauses."""
        if self._pause:
            self._pause -= 1
            return []
        draft: list[int] = []
        end = self._tokens[-_ENDS[0] :]
        while len(draft) < min(self._most, room) and (token := self._next(end)) is not None:
            draft.append(token)
            end = [*end, token][-_ENDS[0] :]
        return draft

    def _next(self, end: Sequence[int]) -> int | None:
        for size in _ENDS:
            place = self._after.get(tuple(end[-size:]))
            if place is not None:
                return self._tokens[place]
        return None

    def observe(self, accepted: int) -> None:
        """Record how many tokens of the last proposal were accepted."""
        self._missed = 0 if accepted else self._missed + 1
        if self._missed == _MISSES:
            self._missed, self._pause = 0, _PAUSE
