import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.features.text import MAX_CHARS, NAMES, form_values, read

QUESTION = "Which is NOT a prime?\nA. 2\nB. 3\nC. 1,000\nD. 7.5\nAnswer:"


def feature(prompt: str, name: str) -> float:
    return form_values(read(prompt))[NAMES.index(name)]


@given(st.text(max_size=400))
def test_any_text_gives_finite_features_of_one_length(prompt: str):
    values = np.array(form_values(read(prompt)), np.float32)
    assert values.shape == (len(NAMES),)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


@given(st.text(max_size=200))
def test_words_are_lower_case_letters(text: str):
    assert all(word.isascii() and word.isalpha() and word.islower() for word in read(text).words)


def test_options_are_told_from_the_stem():
    reading = read(QUESTION)
    assert len(reading.options) == 4
    assert reading.words[: reading.stem_words] == ["which", "is", "not", "a", "prime"]
    assert sum(reading.option_words) == len(reading.words) - reading.stem_words


@pytest.mark.parametrize(
    ("name", "expected"), [("options", 4.0), ("options_numeric", 1.0), ("ends_with_question", 1.0)]
)
def test_the_form_of_a_multiple_choice_question(name: str, expected: float):
    assert feature(QUESTION, name) == expected


def test_negation_and_code_are_seen():
    assert feature("Which is NOT true?", "negated") > feature("Which is true?", "negated")
    assert feature("def f(): return 1", "code_block") > 0


def test_a_long_document_costs_what_a_paragraph_costs():
    reading = read("word " * 100_000 + "the end")
    assert len(reading.text) <= MAX_CHARS + 1
    assert reading.words[-2:] == ["the", "end"]
