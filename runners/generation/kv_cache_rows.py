"""What each row of a key-value cache holds, so that a prompt is not read twice.

A row keeps its tokens when its answer has ended, until another needs the place. A new prompt
starts from the row that shares the longest beginning with it: the system prompt of any other
conversation, or its own turns so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

MIN_SHARED_TOKENS = 8
"""A shorter common beginning is read as fast as it is copied."""

LEFT_TO_READ = 2
"""Tokens of a prompt that are always read. One alone would take an int8 engine's kernel for a
single row, which rounds otherwise: a near tie then fell differently when a prompt was sent again.
"""


class Rows(Protocol):
    """Where each sequence's keys and values are."""

    def begin(self, row: int, prompt: Sequence[int]) -> int:
        """Give a row to a new prompt; returns how many tokens of it need not be read."""
        ...

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """These tokens were read into a row, after those it held."""
        ...

    def exchange(self, one: int, other: int) -> None:
        """Let two rows change places."""
        ...


class NamedRows:
    """Rows of a cache that moves nothing: two change places by name, and prompts are read whole.

    Args:
        exchange: lets two rows change their names.
    """

    def __init__(self, exchange: Callable[[int, int], None]) -> None:
        self._exchange = exchange

    def begin(self, row: int, prompt: Sequence[int]) -> int:
        """See ``Rows.begin``: nothing is shared."""
        del row, prompt
        return 0

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """See ``Rows.extend``: the engine keeps account."""

    def exchange(self, one: int, other: int) -> None:
        """See ``Rows.exchange``."""
        if one != other:
            self._exchange(one, other)


class CacheRows:
    """Keeps account of the rows and moves their contents.

    Args:
        rows: how many sequences there may be. The cache has one row more, which is only used to
            exchange two.
        copy: copies the first ``length`` positions of row ``source`` over row ``target``.
    """

    def __init__(self, rows: int, copy: Callable[[int, int, int], None]) -> None:
        self._copy_positions = copy
        self._spare = rows
        self._tokens: list[list[int]] = [[] for _ in range(rows + 1)]
        self._used = [0] * (rows + 1)
        self._clock = 0

    def begin(self, row: int, prompt: Sequence[int]) -> int:
        """Put what is already read of a prompt into a row; returns how many tokens that is.

        This row and those after it are free. What it held of an answer that has ended moves to
        the one of them that was used longest ago. The prompt's last ``LEFT_TO_READ`` tokens are
        always left to be read, for the logits after them.
        """
        held = [self._shared(each, prompt) for each in range(len(self._tokens))]
        shared = max(held)
        source = held.index(shared)
        if shared < MIN_SHARED_TOKENS:
            source, shared = row, 0
        if len(self._tokens[row]) - held[row] >= MIN_SHARED_TOKENS:
            if row < source and len(self._tokens[source]) - shared < MIN_SHARED_TOKENS:
                self.exchange(row, source)  # nothing of the other row is left behind
                source = row
            else:
                free = [each for each in range(row, self._spare) if each == row or each != source]
                self._copy(row, self._coldest(free), len(self._tokens[row]))
        self._copy(source, row, shared)
        del self._tokens[row][shared:]
        return shared

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """These tokens were read into a row, after those it held."""
        self._tokens[row].extend(tokens)
        self._touch(row)

    def exchange(self, one: int, other: int) -> None:
        """Let two rows change places."""
        if one != other:
            used, spare = self._used, self._spare
            before = used[one], used[other]
            for source, target in ((other, spare), (one, other), (spare, one)):
                self._copy(source, target, len(self._tokens[source]))
            used[other], used[one] = before
            self._tokens[spare].clear()

    def _shared(self, row: int, prompt: Sequence[int]) -> int:
        held = self._tokens[row]
        most = min(len(held), len(prompt) - LEFT_TO_READ)
        return next((i for i in range(most) if held[i] != prompt[i]), max(most, 0))

    def _coldest(self, rows: Iterable[int]) -> int:
        return min(rows, key=lambda row: (bool(self._tokens[row]), self._used[row]))

    def _copy(self, source: int, target: int, length: int) -> None:
        if source == target:
            return
        if length:
            self._copy_positions(source, target, length)
        self._tokens[target] = self._tokens[source][:length]
        self._touch(target)

    def _touch(self, row: int) -> None:
        self._clock += 1
        self._used[row] = self._clock
