"""Tracks the tokens in each row of a key-value cache, so that shared prefixes are read once.

A row keeps its tokens when its answer has ended, until another sequence needs it. A new prompt
starts from the row that shares the longest prefix with it: the system prompt of any other
conversation, or its own turns so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

MIN_SHARED_TOKENS = 8
"""A shorter common prefix is read as fast as it is copied."""

LEFT_TO_READ = 2
"""Tokens of a prompt that are always read. A single one would use an int8 engine's kernel for one
row, which rounds differently: a near tie then fell differently when a prompt was sent again.
"""


class Rows(Protocol):
    """The rows that hold each sequence's keys and values."""

    def begin(self, row: int, prompt: Sequence[int]) -> int:
        """Assign a row to a new prompt; returns how many of its tokens need not be read."""
        ...

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Record tokens that were read into a row, after those it held."""
        ...

    def exchange(self, first: int, second: int) -> None:
        """Swap two rows."""
        ...


class NamedRows:
    """Rows of a cache that moves nothing: rows swap their names, and prompts are read whole.

    Args:
        exchange: swaps the names of two rows.
    """

    def __init__(self, exchange: Callable[[int, int], None]) -> None:
        self._exchange = exchange

    def begin(self, row: int, prompt: Sequence[int]) -> int:
        """See ``Rows.begin``: nothing is shared."""
        return 0

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """See ``Rows.extend``: the engine tracks them itself."""

    def exchange(self, first: int, second: int) -> None:
        """See ``Rows.exchange``."""
        if first != second:
            self._exchange(first, second)


class CacheRows:
    """Tracks the tokens of the rows and moves their contents.

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
        """Copy the longest known prefix of a prompt into a row; returns its tokens.

        This row and those after it are free. Its old contents, of an answer that has ended, move
        to the free row that was used longest ago. The prompt's last ``LEFT_TO_READ`` tokens are
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
        """Record tokens that were read into a row, after those it held."""
        self._tokens[row].extend(tokens)
        self._touch(row)

    def exchange(self, first: int, second: int) -> None:
        """Swap two rows."""
        if first != second:
            used, spare = self._used, self._spare
            before = used[first], used[second]
            for source, target in ((second, spare), (first, second), (spare, first)):
                self._copy(source, target, len(self._tokens[source]))
            used[second], used[first] = before
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
