"""The passes a text runner makes: within its budget, fair, and fewer where it may guess."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from runners.generation.slot_runner import SlotRunner
from tests.runners.generation.toy import ToyDecoder, saying, write

letters = st.text(alphabet="abc ", min_size=2, max_size=60)


def toy(max_sequences=3, **options):
    """A loaded runner and its decoder."""
    decoder = ToyDecoder(max_sequences + 1)
    runner = SlotRunner("toy", max_sequences, lambda slots: decoder, **options)
    runner.load()
    return runner, decoder


def begin(runner, generation):
    """Add a generation and step until it has written its first token."""
    number = runner.add(generation)
    while number not in {step.sequence for step in runner.step()}:
        pass


@given(st.integers(0, 2), st.integers(8, 40), st.integers(2, 100))
def test_a_step_takes_one_token_of_each_answer_and_the_rest_of_a_prompt(running, budget, length):
    runner, decoder = toy(step_tokens=budget)
    for _ in range(running):
        begin(runner, saying("ab", max_tokens=150))
    decoder.passes.clear()
    begin(runner, saying("c" * length))
    reads = [count for kind, count in decoder.passes if kind == "read"]
    assert max(reads) <= budget - running
    assert sum(reads) == length
    assert len(reads) <= -(-length // (budget - running - 1))


@given(letters, letters, st.integers(6, 40))
def test_running_answers_go_on_while_a_prompt_is_read(first, second, budget):
    runner, decoder = toy(step_tokens=budget)
    begin(runner, saying(first, max_tokens=100))
    decoder.passes.clear()
    runner.add(saying(second, max_tokens=1))
    for _ in range(2 * len(second) + 2):
        runner.step()
    kinds = [kind for kind, _ in decoder.passes]
    assert not any(one == other == "read" for one, other in itertools.pairwise(kinds))


@given(st.text(alphabet="ab", min_size=4, max_size=60), st.integers(4, 40))
def test_no_last_token_of_a_prompt_is_read_alone(prompt, budget):
    runner, decoder = toy(step_tokens=budget)
    write(runner, saying(prompt))
    assert min(count for kind, count in decoder.passes if kind == "read") >= 2


@given(letters, st.integers(1, 40), st.integers(1, 8), st.booleans())
def test_guessing_ahead_changes_no_token(prompt, tokens, draft, sampled):
    more = {"temperature": 1.0, "seed": 3} if sampled else {}
    asked = saying(prompt, max_tokens=tokens, **more)
    (plain,), _ = write(toy()[0], asked)
    runner, _ = toy(draft_tokens=draft)
    (guessed,), _ = write(runner, asked)
    (again,), _ = write(runner, asked)
    assert plain == guessed == again


def test_guessing_ahead_takes_fewer_passes_where_an_answer_repeats_itself():
    asked = saying("aaaaaaaaaaaa", max_tokens=40)
    (plain,), steps = write(toy()[0], asked)
    (guessed,), fewer = write(toy(draft_tokens=3)[0], asked)
    assert plain == guessed
    assert fewer <= steps / 3


def test_nothing_is_guessed_beside_another_answer():
    runner, decoder = toy(draft_tokens=3)
    begin(runner, saying("aaaaaaaaaaaa"))
    begin(runner, saying("aaaaaaaaaaab"))
    decoder.passes.clear()
    for _ in range(3):
        runner.step()
    assert decoder.passes == [("write", 2)] * 3


@given(st.lists(letters, min_size=3, max_size=3), st.integers(1, 6))
def test_guesses_and_other_answers_take_turns_without_harm(prompts, draft):
    asked = [saying(prompt, max_tokens=9 + i) for i, prompt in enumerate(prompts)]
    alone = [write(toy()[0], one)[0][0] for one in asked]
    together, _ = write(toy(draft_tokens=draft)[0], *asked)
    assert together == alone


def test_a_guess_never_runs_past_the_context():
    runner, _ = toy(draft_tokens=16)
    (written,), _ = write(runner, saying("a" * 190, max_tokens=500))
    assert len(written) == ToyDecoder.context_tokens - 190
