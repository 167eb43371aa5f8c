"""Parsing of a prompt: its words, numbers and answer options, and features of its form.

Everything here is a pure function of the text; nothing is learned. The cost is bounded: text
beyond ``MAX_CHARS`` is cut from the middle, so a long document costs what a paragraph costs.
Reading more did not help: on MMLU, 900 characters did as well as 6,000 (docs/router-trials.md).
"""

from __future__ import annotations

import math
import re
import string
from typing import Final, NamedTuple

MAX_CHARS: Final = 900
_LONG: Final = 8
_HEAD_CHARS: Final = 600

_LETTERS: Final = bytes(
    ord(chr(b).lower()) if chr(b).isascii() and chr(b).isalpha() else 32 for b in range(256)
)
_NUMERIC: Final = bytes(b if chr(b) in "0123456789,." else 32 for b in range(256))
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_STAND_IN: Final = b"\x80"
# \d\d* and not \d+: re looks ahead for a first character, but not for a first repeat.
_VALUE: Final = re.compile(r"\d\d*(?:\.\d+)?")
_NUMBER: Final = re.compile(r"\d[\d,]*\.?\d*")
_UPPER_CASE: Final = string.ascii_uppercase.encode()
_ASCII_LETTERS: Final = string.ascii_letters.encode()
_DIGITS: Final = string.digits.encode()
OPTION: Final = re.compile(r"\n[^\S\n]*\(?([A-J])[.):]\s")


class Reading(NamedTuple):
    """One prompt, parsed once for all features.

    Attributes:
        text: the prompt, cut to ``MAX_CHARS``.
        body: the same with one byte a character; 128 stands for every one that is not ASCII.
        words: alphabetic words of the whole text, in order.
        stem_words: number of ``words`` before the first answer option.
        stem_chars: number of characters of ``text`` before it; all where there are no options.
        options: text of each answer option ("A. ...", "B) ..."), empty when there are none.
        option_words: number of ``words`` in each option.
        numbers: numerals as written, in order.
    """

    text: str
    body: bytes
    words: list[str]
    stem_words: int
    stem_chars: int
    options: tuple[str, ...]
    option_words: tuple[int, ...]
    numbers: list[str]


def read(prompt: str) -> Reading:
    """Parse a prompt. Never fails, not even on empty text."""
    text = prompt
    if len(text) > MAX_CHARS:
        text = text[:_HEAD_CHARS] + "\n" + text[-(MAX_CHARS - _HEAD_CHARS) :]
    body = text if text.isascii() else _NOT_ASCII.sub(_STAND_IN.decode("latin-1"), text)
    body = body.encode("latin-1")
    letters = body.translate(_LETTERS).decode("ascii")
    numbers = _NUMBER.findall(" ".join(body.translate(_NUMERIC).decode().split()))
    marks = list(OPTION.finditer(text))
    if len(marks) < 2:
        words = letters.split()
        return Reading(text, body, words, len(words), len(text), (), (), numbers)
    stem_chars = marks[0].start()
    words = letters[:stem_chars].split()
    stem_words = len(words)
    options: list[str] = []
    option_words: list[int] = []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        start = mark.end()
        own = letters[start:end].split()
        words += own
        option_words.append(len(own))
        options.append(text[start:end])
    return Reading(
        text=text,
        body=body,
        words=words,
        stem_words=stem_words,
        stem_chars=stem_chars,
        options=tuple(options),
        option_words=tuple(option_words),
        numbers=numbers,
    )


_WORD_GROUPS: Final[tuple[tuple[str, str], ...]] = (
    ("negated", "not except least false never incorrect cannot"),
    ("asks_who_when_where", "who whom when where"),
    ("asks_why_or_explain", "why explain describe discuss"),
    ("asks_how", "how"),
    ("asks_what_or_which", "what which"),
    ("asks_to_compute", "calculate compute determine evaluate solve find estimate"),
    ("asks_to_prove", "prove proof theorem lemma suppose let show"),
    ("asks_for_code", "function python program code algorithm array list string return def"),
    ("logic", "valid invalid premise premises implies argument conclusion proposition"),
    ("moral", "scenario moral wrong morally character standards"),
    ("statements", "statement statements ii iii iv"),
    ("passage", "passage author refers following quotation excerpt according"),
    ("comparison", "more than less twice times half fewer each total remaining left"),
    ("rates", "percent per ratio rate average"),
    ("money", "cost price pay sell dollar dollars profit cents"),
    ("time", "hour hours minute minutes day days week weeks month months year years"),
    ("law", "court defendant plaintiff contract statute law crime liable"),
    ("medicine", "patient disease symptom symptoms treatment blood infection clinical"),
    ("physics", "mass force velocity energy current temperature pressure charge field"),
    ("hedged", "likely best probably would could might should most"),
    ("all_or_none", "all none both neither only"),
)
_GROUP_OF: Final[dict[str, int]] = {
    word: group + 1 for group, (_, words) in enumerate(_WORD_GROUPS) for word in words.split()
}
_PHRASES: Final[tuple[tuple[str, bytes], ...]] = (
    ("asks_how_many", b"how m"),
    ("asks_which_of", b"which of the"),
    ("all_of_the", b"of the above"),
    ("blank", b"__"),
    ("told_to_box", b"\\boxed"),
    ("code_block", b"def "),
)

NAMES: Final[tuple[str, ...]] = (
    "length",
    "words",
    "lines",
    "sentences",
    "words_per_sentence",
    "word_length",
    "long_words",
    "distinct_words",
    "upper_case",
    "digits",
    "numbers",
    "number_size",
    "commas",
    "parentheses",
    "quotes",
    "operators",
    "latex_marks",
    "brackets",
    "dollar_marks",
    "percent_marks",
    "underscores",
    "colons",
    "question_marks",
    "not_ascii",
    "options",
    "option_length",
    "option_length_spread",
    "options_numeric",
    "options_repeat_words",
    "options_of_one_word",
    "longest_option_at",
    "longest_option_by",
    "options_rising",
    "option_ratio",
    "stem_length",
    "ends_with_question",
    "ends_with_colon",
    *(name for name, _ in _WORD_GROUPS),
    *(name for name, _ in _PHRASES),
)


def _option_features(reading: Reading, distinct: int) -> tuple[float, ...]:
    """Return features of the answer options: number, lengths, and whether they are numbers.

    ``distinct`` is the number of their different words.
    """
    options = reading.options
    if not options:
        return (0.0,) * 10
    n, lengths = len(options), list(map(len, options))
    ordered = sorted(lengths)
    mean, longest = sum(lengths) / n, ordered[-1]
    values = [float(match[0]) for match in map(_VALUE.search, options) if match]
    rising = 0.5
    ratio = 0.0
    if len(values) > 2:
        low_first = sorted(values)
        rising = float(values == low_first)
        low, high = low_first[0], low_first[-1]
        ratio = min(math.log1p(high / low), 20.0) if low > 0.0 else 0.0
    return (
        float(n),
        math.log1p(mean),
        (longest - ordered[0]) / (mean + 1.0),
        len(values) / n,
        1.0 - distinct / (len(reading.words) - reading.stem_words + 1.0),
        len([count for count in reading.option_words if count <= 1]) / n,
        lengths.index(longest) / n,
        (longest - ordered[n // 2]) / (mean + 1.0),
        rising,
        ratio,
    )


def _number_size(numbers: list[str]) -> float:
    digits = max([len(number.partition(".")[0]) for number in numbers], default=0)
    return float(min(digits, 12))


def form_values(reading: Reading) -> list[float]:
    """Return features of form, one for each of ``NAMES``, as a list that callers append to.

    Counts are compressed with log(1 + n) and shares are in [0, 1], so that one long document
    does not dominate a linear head.
    """
    text, body, words = reading.text, reading.body, reading.words
    n_chars, n_words = len(text), len(words)
    marks = body.translate(None, _ASCII_LETTERS)  # a quarter of the text is faster to count
    log1p, count = math.log1p, marks.count
    questions = count(b"?")
    sentences = body.count(b". ") + questions + count(b"!") + 1
    stem_chars = text.find(reading.options[0]) if reading.options else n_chars
    tail = text[max(0, stem_chars - 8) : stem_chars] if reading.options else text[-3:]
    lower = body.lower()
    distinct = set(words[reading.stem_words :])
    distinct_in_options = len(distinct)
    distinct.update(words[: reading.stem_words])
    grouped = [0] * (len(_WORD_GROUPS) + 1)
    for group in filter(None, map(_GROUP_OF.get, words)):
        grouped[group] += 1
    return [
        log1p(n_chars),
        log1p(n_words),
        log1p(count(b"\n")),
        log1p(sentences),
        log1p(n_words / sentences),
        (n_chars - len(marks)) / (n_words + 1.0),
        len([word for word in words if len(word) > _LONG]) / (n_words + 1.0),
        len(distinct) / (n_words + 1.0),
        (n_chars - len(body.translate(None, _UPPER_CASE))) / (n_chars + 1.0),
        (len(marks) - len(marks.translate(None, _DIGITS))) / (n_chars + 1.0),
        log1p(len(reading.numbers)),
        _number_size(reading.numbers),
        log1p(count(b",")),
        log1p(count(b"(")),
        log1p(count(b'"') + count(b"'")),
        log1p(len(marks) - len(marks.translate(None, b"=+*/<>"))),
        log1p(count(b"\\") + count(b"^")),
        log1p(count(b"[") + count(b"{")),
        log1p(count(b"$")),
        log1p(count(b"%")),
        log1p(count(b"_")),
        log1p(count(b":")),
        log1p(questions),
        count(_STAND_IN) / (n_chars + 1.0),
        *_option_features(reading, distinct_in_options),
        log1p(max(0, stem_chars)),
        float("?" in tail),
        float(":" in tail),
        *map(log1p, grouped[1:]),
        *[log1p(lower.count(phrase)) for _, phrase in _PHRASES],
    ]
