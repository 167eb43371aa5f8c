"""A pool remembers what it made of single prompts, and a new model profits from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.features.key import MAX_CHARS, NO_KEY, prompt_key
from routing.quality import DEFAULT_ROUTER, ModelPrior, load_router, save_router
from routing.quality.encoder import Encoder
from routing.quality.memory import Memory
from routing.training.factors import pretrain, without_own_answers
from routing.training.fit import forget, train_router
from routing.training.outcomes import Outcomes
from turnout.errors import DataError

SHIPPED = DEFAULT_ROUTER
PAIR = [ModelPrior("small", 0.5), ModelPrior("large", 0.5)]
QUESTION = (
    "Which of these numbers, of all that are written below, is a prime?\nA. 4\nB. 7\nC. 9\nAnswer:"
)


@pytest.mark.parametrize(
    "copy",
    [
        QUESTION.upper().replace("\nA. 4", "\n(A) 4"),
        QUESTION.split("\nA.")[0] + "\nA. 21\nB. 23\nC. 25\nD. 27",
        "  " + QUESTION + "\n",
        QUESTION.replace("\nA.", " \n\nA."),
    ],
)
def test_copies_share_a_key(copy: str):
    assert prompt_key(copy) == prompt_key(QUESTION) != NO_KEY


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (QUESTION, QUESTION.replace("prime", "square")),
        ("What is the value of 1 + 23?", "What is the value of 12 - 3?"),
        ("Is it true that -3 > 1.5 here?", "Is it true that 3 < 15 here?"),
        ("Which of these is true?\nA. one\nB. two", "Which of these is true?\nA. 1\nB. 2"),
        ("Which word is the odd one out?\nA. one\nB. two", "Which word is the odd one out?"),
        (QUESTION + " B\n\nQ: And of 1, 2?\nAnswer:", QUESTION + " B\n\nQ: And of 8, 9?\nAnswer:"),
        (QUESTION + "\nA. more\nB. less", QUESTION),
    ],
)
def test_other_prompts_have_other_keys(one: str, other: str):
    assert prompt_key(one) != prompt_key(other)


@pytest.mark.parametrize("short", ["", "?!", "go on", "yes, please"])
def test_what_says_little_by_itself_has_no_key(short: str):
    assert prompt_key(short) == NO_KEY


@given(st.text(max_size=300))
def test_any_text_has_a_key(text: str):
    assert 0 <= prompt_key(text) < 2**64


def test_long_prompts_differ_by_their_length():
    start, end = "a" * MAX_CHARS, "b" * MAX_CHARS
    assert prompt_key(start + end) != prompt_key(start + "c" + end)


def test_an_unmet_prompt_is_nothing():
    memory = Memory(np.array([prompt_key(QUESTION)], dtype=np.uint64), np.array([[32, -64]], "i1"))
    assert memory.of(QUESTION).tolist() == [1.0, -2.0]
    assert memory.of("something else").tolist() == [0.0, 0.0]


def test_what_was_asked_is_known_even_where_nothing_may_be_remembered():
    twice = "Which of these sentences, all of them by one author, was written first?"
    asked = [f"{twice}\nA. {i}\nB. {i + 1}" for i in range(2)]
    crowd = whims(400, 5, ("x", "y"))
    both = replace(crowd, prompts=(*asked, *crowd.prompts[2:]))
    memory = pretrain([both], without_pool()).encoder.factors.memory  # type: ignore[union-attr]
    assert memory.was_asked(asked[0])
    assert not memory.of(asked[0]).any()
    assert memory.of(crowd.prompts[5]).any()
    assert not memory.was_asked("Something that no pool was ever asked")


def without_pool() -> Encoder:
    return replace(load_router(SHIPPED).encoder, factors=None)


def whims(n: int, seed: int, models: tuple[str, ...], spread: float = 0.95) -> Outcomes:
    """Prompts that all read alike; each is a whim of its own: hard for all models or for none."""
    random = np.random.default_rng(seed)
    hard = np.random.default_rng(99).random(n) < 0.5
    p = np.where(hard[:, None], 1.0 - spread, spread) * np.ones(len(models))
    if "small" in models:
        p[:, models.index("small")] = np.where(hard, 0.1, 0.9)
        p[:, models.index("large")] = 0.9
    return Outcomes(
        query_ids=tuple(f"q{i}" for i in range(n)),
        prompts=tuple(f"What is the meaning of sign number {i}?" for i in range(n)),
        groups=("",) * n,
        models=models,
        score=(random.random(p.shape) < p).astype(float),
        cost_usd=np.full(p.shape, np.nan),
    )


@pytest.fixture(scope="module")
def pool() -> Outcomes:
    return whims(400, 1, ("a", "b", "c", "d", "e"))


def gain(router_for: Outcomes, pool: Outcomes, prompts: tuple[str, ...]) -> np.ndarray:
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    router = train_router(router_for, pretrain([pool], plain).encoder, rich=False)
    p = np.stack([router.predict(prompt, PAIR, fast=True) for prompt in prompts])
    return p[:, 1] - p[:, 0]


def test_what_the_pool_met_is_known_of_a_new_pair(pool: Outcomes):
    """The pair answered the first 150 of the pool's prompts; the rest it has never seen."""
    pair = whims(400, 2, ("small", "large"))
    hard = np.random.default_rng(99).random(400) < 0.5
    found = gain(pair.take(np.arange(150)), pool, pair.prompts[150:])
    assert np.corrcoef(found, hard[150:])[0, 1] > 0.8


def test_prompts_nobody_met_are_judged_as_if_nothing_were_remembered(pool: Outcomes):
    pair = whims(400, 2, ("small", "large")).take(np.arange(150))
    unmet = [f"What is the meaning of sign {i} and {i}?" for i in range(400, 450)]
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    router = train_router(pair, pretrain([pool], plain).encoder, rich=False)
    factors = router.encoder.factors
    assert factors is not None
    nothing = replace(factors, memory=Memory(factors.memory.keys[:0], factors.memory.surplus[:0]))
    forgetful = replace(router, encoder=replace(router.encoder, factors=nothing))
    for prompt in unmet:
        np.testing.assert_array_equal(
            router.predict(prompt, PAIR, fast=True), forgetful.predict(prompt, PAIR, fast=True)
        )


@pytest.mark.parametrize(("met", "left"), [(0, 0), (30, 30), (50, 50), (51, 50), (100, 50)])
def test_at_most_half_of_the_prompts_count_as_met(met: int, left: int):
    factors = np.ones((100, 4), dtype=np.float32)
    factors[met:, 2:] = 0.0
    found = forget(factors, 2, seed=3)
    assert found[:, 2:].any(axis=1).sum() == left
    assert not found[met:, 2:].any()
    np.testing.assert_array_equal(found[:, :2], factors[:, :2])


def silent(encoder: Encoder) -> list[bool]:
    """Which columns of the memory say nothing of any prompt."""
    assert encoder.factors is not None
    return [not column.any() for column in encoder.factors.memory.surplus.T]


def test_a_models_own_answers_do_not_help_to_predict_it(pool: Outcomes):
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    encoder = pretrain([pool, whims(400, 5, ("x", "y", "z"))], plain).encoder
    a, b = len(encoder.factors.leading), len(encoder.factors.bias)  # type: ignore[union-attr]
    assert a == 2
    first = encoder.factors.leading[1]  # type: ignore[union-attr]
    assert not any(silent(without_own_answers(encoder, ["new", "newer"])))
    own = silent(without_own_answers(encoder, ["org/Meta-B", "new"]))
    assert own == [True] * first + [False] * (b - first)
    router = train_router(pool.only(["a", "b"]), pretrain([pool], plain).encoder, rich=False)
    assert all(silent(router.encoder))


def test_among_many_a_few_own_answers_do_no_harm():
    crowd = whims(400, 5, tuple("abcdefghijk"))
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    assert not any(silent(without_own_answers(pretrain([crowd], plain).encoder, ["b", "new"])))


def test_the_shipped_heads_do_not_repeat_their_models_answers():
    """What the pool's models answered must not come back as a prediction of these models."""
    router = load_router(SHIPPED)
    factors, kernel = router.encoder.factors, router.heads.kernel
    assert factors is not None
    assert kernel.curves is not None
    pool = [router.heads.rows[name] for names in factors.models for name in names]
    assert len(pool) == 33
    assert not kernel.factor_weights[factors.smooth :, pool].any()
    slopes = kernel.curves.slopes.reshape(factors.width, -1, len(router.models))
    assert not slopes[factors.smooth :, :, pool].any()
    assert slopes[: factors.smooth, :, pool].any()


def test_a_pool_that_answered_in_parts_remembers_no_failures(pool: Outcomes):
    """A question that a model was not asked is not one it failed."""
    score = pool.score.copy()
    score[:200, 2:] = np.nan
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    factors = pretrain([replace(pool, score=score)], plain).encoder.factors
    assert factors is not None
    easy = np.array([factors.memory.of(prompt)[0] for prompt in pool.prompts])
    asked = score[:, 0] > 0.5
    assert abs(easy[:200].mean()) < 0.35
    assert easy[:200][asked[:200]].mean() > easy[:200][~asked[:200]].mean()


def test_a_pool_that_tells_nothing_is_refused(pool: Outcomes):
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    with pytest.raises(DataError, match="tells nothing"):
        pretrain([replace(pool, score=np.ones_like(pool.score))], plain)


def test_a_pool_of_twins_has_one_factor(pool: Outcomes):
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    twins = replace(pool.only(["a", "b"]), score=np.repeat(pool.score[:, :1], 2, axis=1))
    factors = pretrain([twins], plain).encoder.factors
    assert factors is not None
    assert len(factors.bias) == factors.memory.width == 1
    assert np.isfinite(factors.weights).all()


def test_stems_met_twice_with_other_options_are_not_remembered():
    table = whims(400, 3, ("a", "b", "c"))
    stem = "Which of all the statements below is true of each and every number?"
    twice = (
        f"{stem}\nA. one\nB. two\nC. three",
        f"{stem}\nA. four\nB. five\nC. six",
    )
    table = replace(table, prompts=(*twice, *table.prompts[2:]))
    factors = pretrain([table], replace(load_router(SHIPPED).encoder, factors=None)).encoder.factors
    assert factors is not None
    assert not factors.memory.of(twice[0]).any()
    assert factors.memory.of(table.prompts[2]).any()


def test_a_memory_survives_saving(pool: Outcomes, tmp_path: Path):
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    pair = whims(60, 2, ("small", "large"))
    router = train_router(pair, pretrain([pool], plain).encoder, rich=False)
    save_router(router, tmp_path / "router", {})
    again = load_router(tmp_path / "router")
    before, after = router.encoder.factors, again.encoder.factors
    assert before is not None
    assert after is not None
    assert after.models == before.models == (pool.models,)
    assert len(after.memory) == len(before.memory) == 400
    np.testing.assert_array_equal(
        after.memory.of(pool.prompts[7]), before.memory.of(pool.prompts[7])
    )


def test_the_shipped_pool_is_remembered():
    factors = load_router(SHIPPED).encoder.factors
    assert factors is not None
    assert len(factors.memory) > 10_000
    assert [len(names) for names in factors.models] == [24, 9]
