"""Character n-grams, and the regression on them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.features.grams import BUCKETS, grams
from routing.features.text import read
from routing.quality.encoder import Encoded
from routing.quality.heads import GramHeads
from routing.training.estimators import fit_grams, inverse_frequency, weighed


def counted(prompts: list[str]) -> sp.csr_matrix:
    rows = np.zeros((len(prompts), BUCKETS), dtype=np.float32)
    for row, prompt in zip(rows, prompts, strict=True):
        ids, values = grams(read(prompt))
        row[ids] = values
    return sp.csr_matrix(rows)


def encoded(prompt: str) -> Encoded:
    ids, values = grams(read(prompt))
    none = np.zeros(0, dtype=np.float32)
    return Encoded(none, none, ids, values, 1.0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_distinct_buckets_and_counts_from_one(prompt: str):
    ids, values = grams(read(prompt))
    assert (np.diff(ids) > 0).all()
    assert ((ids >= 0) & (ids < BUCKETS)).all()
    assert (values >= 1.0).all()
    assert len(values) == len(ids)


def test_two_letters_are_nine_runs_and_the_space_is_met_twice():
    ids, values = grams(read("ab"))  # of " ab "
    assert len(ids) == 9
    assert sorted(values.tolist())[-1] == np.float32(1.0 + np.log(2.0))


def test_case_and_white_space_make_no_difference():
    one, other = grams(read("What is\n2 + 2?")), grams(read(" what  is 2 + 2? "))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_characters_of_any_script_count():
    heads = fit_grams(*_seen(["数学证明", "你好天气"] * 20), np.tile([[0.0], [1.0]], (20, 1)))
    hard, easy = (heads.estimate(encoded(prompt))[0] for prompt in ("请看数学证明", "今天你好天气"))
    assert hard < 0.4 < 0.6 < easy


def _seen(prompts: list[str]) -> tuple[sp.csr_matrix, np.ndarray]:
    table = counted(prompts)
    idf = inverse_frequency(table)
    return weighed(table, idf), idf


def test_options_are_kept_apart_from_the_stem():
    of_stem = set(grams(read("zebra"))[0].tolist())
    of_options = set(grams(read("?\nA. zebra\nB. zebra"))[0].tolist())
    assert len(of_stem & of_options) < len(of_stem) / 2


def test_a_long_document_costs_what_a_paragraph_costs():
    assert len(grams(read("x1 y2 z3 " * 10_000))[0]) <= 4 * 1_000


def test_a_run_met_in_one_prompt_only_counts_for_nothing():
    table = counted(["aa", "aa", "aa q"])
    idf = inverse_frequency(table)
    only, shared = set(table[2].indices) - set(table[0].indices), table[0].indices
    assert only
    assert (idf[list(only)] == 0.0).all()
    assert (idf[shared] > 0.0).all()


def test_one_prompt_is_estimated_as_the_table_was():
    prompts = [f"What is {n} + {n + 1}?" if n % 2 else f"Name the {n}th king." for n in range(60)]
    score = np.array([[n % 2, 0.5] for n in range(60)], dtype=np.float64)
    table = counted(prompts)
    idf = inverse_frequency(table)
    tf_idf = weighed(table, idf)
    heads = fit_grams(tf_idf, idf, score)
    together = tf_idf @ heads.weights.astype(np.float32) + heads.bias
    for prompt, row in zip(prompts[:6], together, strict=False):
        np.testing.assert_allclose(heads.estimate(encoded(prompt)), row, atol=1e-5)
    sums, kings = heads.estimate(encoded("What is 7 + 9?")), heads.estimate(encoded("Name a king."))
    assert sums[0] - kings[0] > 0.2
    assert abs(sums[1] - kings[1]) < 1e-3


def test_a_prompt_without_characters_gets_the_bias():
    nothing = np.zeros((BUCKETS, 1), dtype=np.float16)
    heads = GramHeads(nothing[:, 0], nothing, np.array([0.7], dtype=np.float32))
    assert heads.estimate(encoded("")) == np.float32(0.7)
    assert heads.estimate(encoded("never met")) == np.float32(0.7)
