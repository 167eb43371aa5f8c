"""What is guessed ahead of an answer."""

from hypothesis import given
from hypothesis import strategies as st

from runners.generation.prompt_lookup import PromptLookup

texts = st.lists(st.integers(0, 3), max_size=40)


@given(texts, st.integers(1, 8), st.integers(0, 10))
def test_a_guess_is_what_followed_the_same_tokens_before(tokens, most, room):
    guess = PromptLookup(tokens, most).propose(room)
    assert len(guess) <= min(most, room)
    for at, token in enumerate(guess):
        text = tokens + guess[:at]
        followed = {
            tokens[place]
            for place in range(2, len(tokens))
            if tokens[place - 2 : place] == text[-2:]
        }
        assert token in followed


@given(texts)
def test_something_is_guessed_wherever_the_last_two_tokens_stood_before(tokens):
    stood = any(tokens[place - 2 : place] == tokens[-2:] for place in range(2, len(tokens)))
    assert bool(PromptLookup(tokens, 4).propose(4)) == stood


def test_the_longer_and_the_latest_likeness_is_taken():
    assert PromptLookup([1, 2, 3, 9, 7, 2, 3, 8, 1, 2, 3], 1).propose(1) == [9]
    assert PromptLookup([1, 2, 9, 1, 2, 8, 1, 2], 1).propose(1) == [8]


def test_guessing_pauses_after_a_few_that_were_wrong():
    lookup = PromptLookup([1, 2, 1, 2], 2)
    for right in (1, 0, 0, 1, 0, 0):
        lookup.observe(right)
    assert lookup.propose(2)
    lookup.observe(0)
    paused = 0
    while not lookup.propose(2):
        paused += 1
    assert paused == 16
