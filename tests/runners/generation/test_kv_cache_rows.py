"""What a cache of rows holds, against a cache that is looked at."""

from hypothesis import given
from hypothesis import strategies as st

from runners.generation.kv_cache_rows import LEFT_TO_READ, MIN_SHARED_TOKENS, CacheRows

ROWS = 3
LONG = list(range(20))


class Cache:
    """The positions themselves, as an engine would keep them."""

    def __init__(self):
        self.held = [[] for _ in range(ROWS + 1)]
        self.rows = CacheRows(ROWS, self.copy)
        self.copied = 0

    def copy(self, source, target, length):
        assert len(self.held[source]) >= length
        self.held[target][:length] = self.held[source][:length]
        self.copied += length

    def read(self, row, prompt):
        """Read a prompt into a row; returns how much of it was there."""
        start = self.rows.begin(row, prompt)
        self.held[row][start:] = prompt[start:]
        self.rows.extend(row, prompt[start:])
        return start


def test_a_prompt_that_was_just_read_is_there_but_for_its_end():
    cache = Cache()
    assert cache.read(0, LONG) == 0
    assert cache.read(0, LONG) == len(LONG) - LEFT_TO_READ
    assert cache.copied == 0


def test_a_short_beginning_is_not_worth_a_copy():
    cache = Cache()
    cache.read(0, LONG)
    assert cache.read(1, [*LONG[: MIN_SHARED_TOKENS - 1], 99, 98]) == 0
    assert cache.copied == 0
    assert cache.read(1, [*LONG[:MIN_SHARED_TOKENS], 99, 98]) == MIN_SHARED_TOKENS


def test_what_ended_moves_out_of_the_way_of_a_newcomer():
    cache = Cache()
    other = [token + 100 for token in LONG]
    cache.read(0, LONG)
    cache.read(0, other)
    assert cache.read(0, LONG) == len(LONG) - LEFT_TO_READ
    assert cache.read(0, other) == len(other) - LEFT_TO_READ


def test_the_row_used_longest_ago_is_given_up():
    cache = Cache()
    prompts = [[token + 100 * i for token in LONG] for i in range(ROWS + 1)]
    for prompt in prompts:
        cache.read(0, prompt)
    assert [cache.read(0, prompt) > 0 for prompt in prompts[1:]] == [True] * ROWS
    assert cache.read(0, prompts[0]) == 0


beginnings = st.sampled_from([[0] * 12, [1] * 12, [0] * 10 + [1] * 10])
prompts = st.builds(lambda a, b: a + b, beginnings, st.lists(st.integers(0, 2), min_size=1))


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), prompts, st.integers(0, ROWS - 1)), max_size=8))
def test_a_row_holds_its_prompt_whatever_went_before(turns):
    cache = Cache()
    for row, prompt, other in turns:
        cache.read(row, prompt)
        assert cache.held[row] == prompt
        cache.rows.exchange(row, other)
        assert cache.held[other][: len(prompt)] == prompt
