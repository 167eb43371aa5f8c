"""Tokens to text, stop strings, sampling and templates: properties, whatever the pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.generation.chat_template import ChatTemplate
from runners.generation.detokenizer import Detokenizer
from runners.generation.sampling import Sampler, token_chance
from runners.generation.stop_strings import StopStrings
from turnout.errors import InvalidRequest
from turnout.types import Message

words = st.text(alphabet="ab c", max_size=12)
stops = st.lists(st.text(alphabet="ab ", min_size=1, max_size=4), min_size=1, max_size=3)


def from_bytes(tokens):
    return bytes(tokens).decode(errors="replace")


@given(st.text(max_size=30))
def test_text_comes_out_whole_and_never_broken(text):
    detokeniser = Detokenizer(from_bytes)
    pieces = [detokeniser.push(byte) for byte in text.encode()]
    # A real U+FFFD cannot be told from a broken end until something follows it.
    assert "".join([*pieces, detokeniser.flush()]) == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@given(st.lists(st.integers(0, 255), max_size=30))
def test_bytes_that_are_no_text_come_out_as_decoding_them_at_once(tokens):
    detokeniser = Detokenizer(from_bytes)
    pieces = [detokeniser.push(token) for token in tokens]
    assert "".join([*pieces, detokeniser.flush()]) == from_bytes(tokens)


def test_a_leading_space_that_depends_on_the_token_before_is_kept():
    def metaspace(tokens):  # as SentencePiece decodes: the first word loses its space
        joined = "".join(["\u2581the", "\u2581cat", "s"][token] for token in tokens)
        return joined.replace("\u2581", " ").lstrip()

    detokeniser = Detokenizer(metaspace)
    assert [detokeniser.push(token) for token in (0, 1, 2)] == ["the", " cat", "s"]


def until(text, stops):
    """Character by character: what a reader would stop at."""
    for end in range(len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            return text[: end - max(map(len, done))], True
    return text, False


@given(words, stops, st.data())
def test_stop_strings_do_not_depend_on_how_the_text_is_cut(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    matcher = StopStrings(tuple(stops))
    shown = ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown += matcher.push(text[start:end])
        assert until(text, stops)[0].startswith(shown)
    assert (shown + matcher.flush(), matcher.stopped) == until(text, stops)


def test_nothing_is_held_back_without_need():
    matcher = StopStrings(("END",))
    assert [matcher.push(text) for text in ("go E", "N", "d E", "ND x")] == ["go ", "", "ENd ", ""]
    assert matcher.stopped


@given(st.integers(0, 2**32), st.floats(0.05, 1.0), st.floats(0.1, 3.0))
def test_a_sampled_token_is_in_the_nucleus_and_a_seed_repeats_it(seed, top_p, temperature):
    logits = np.random.default_rng(seed).normal(size=50).astype(np.float32) * 3
    first = [Sampler(temperature, top_p, seed).pick(logits) for _ in range(2)]
    assert first[0] == first[1]
    chances = np.exp((logits - logits.max()).astype(float) / temperature)
    chances /= chances.sum()
    likelier = chances[chances > chances[first[0]]].sum()
    assert likelier <= top_p + 1e-9


def test_temperature_zero_takes_the_likeliest():
    logits = np.array([0.0, 3.0, 1.0], np.float32)
    assert Sampler(0.0, 1.0, None).pick(logits) == 1
    chance = token_chance(logits, 1, 2, lambda token: b"abc"[token : token + 1])
    assert chance.token == b"b"
    assert chance.logprob == pytest.approx(-np.log(1 + np.exp(-3) + np.exp(-2)), 1e-5)
    assert [one.token for one in chance.top] == [b"b", b"c"]
    assert chance.top[0].logprob == chance.logprob > chance.top[1].logprob


def test_sampling_follows_the_chances():
    sampler = Sampler(1.0, 1.0, seed=0)
    logits = np.log(np.array([0.7, 0.2, 0.1], np.float32))
    drawn = np.bincount([sampler.pick(logits) for _ in range(3000)], minlength=3) / 3000
    assert drawn == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_a_template_renders_the_conversation_and_refuses_in_its_own_words():
    source = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}[{{ m.role }}] "
        "{{ m.content | tojson }}\n"
        "{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    template = ChatTemplate(source, {"bos_token": "<s>"})
    assert template.render([Message("user", 'é"')]) == '<s>[user] "é\\""\n>'
    with pytest.raises(InvalidRequest, match="no system role"):
        template.render([Message("system", "be kind")])


def test_a_template_reaches_nothing_outside():
    template = ChatTemplate("{{ messages[0].content.__class__.__mro__ }}", {})
    with pytest.raises(InvalidRequest, match="unsafe"):
        template.render([Message("user", "a")])
