"""A pool remembers what it made of single prompts, and a new model profits from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.features.key import MAX_CHARS, prompt_key
from routing.quality import ModelPrior, load_router, save_router
from routing.quality.factors import Factors
from routing.quality.memory import Memory
from routing.training.factors import own_answers, pretrain
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes
from tests.routing import tables

SHIPPED = Path(tables.__file__).parents[2] / "routing" / "default_router"
PAIR = [ModelPrior("small", 0.5), ModelPrior("large", 0.5)]
QUESTION = "Which of these is a prime?\nA. 4\nB. 7\nC. 9\nAnswer:"


@pytest.mark.parametrize(
    "copy",
    [
        "WHICH of these is a prime\nA. 4\nB. 7\nC. 9\nAnswer:",
        "  Which  of these — is a prime?\nA. 21\nB. 23\nC. 25\nD. 27".replace(" —", ","),
    ],
)
def test_copies_share_a_key(copy: str):
    assert prompt_key(copy) == prompt_key(QUESTION)


@pytest.mark.parametrize(
    "other",
    ["Which of those is a prime?\nA. 4\nB. 7", "Which of these is a prime", "", "質問"],
)
def test_other_prompts_have_other_keys(other: str):
    different = other != "Which of these is a prime"
    assert (prompt_key(other) != prompt_key(QUESTION)) is different


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


def test_prompts_nobody_met_are_judged_as_before(pool: Outcomes):
    pair = whims(400, 2, ("small", "large"))
    unmet = tuple(f"What is the meaning of sign {i} and {i}?" for i in range(400, 500))
    assert np.ptp(gain(pair.take(np.arange(150)), pool, unmet)) < 0.2


def test_a_models_own_answers_do_not_help_to_predict_it(pool: Outcomes):
    plain = replace(load_router(SHIPPED).encoder, factors=None)
    other = whims(400, 5, ("x", "y", "z"))
    factors = pretrain([pool, other], plain).encoder.factors
    assert isinstance(factors, Factors)
    smooth = len(factors.bias)
    assert own_answers(factors, ["new", "newer"]).tolist() == []
    assert own_answers(factors, ["org/Meta-B", "new"]).tolist() == list(range(smooth, smooth + 4))
    assert own_answers(factors, ["z"]).tolist() == list(range(smooth + 4, factors.width))
    crowd = replace(factors, models=(tuple("abcdefghijk"), other.models))
    assert own_answers(crowd, ["b", "new"]).tolist() == []
    known = pretrain([pool], plain).encoder
    assert known.factors is not None
    before, mixed = known.factors.memory, np.random.default_rng(0).permutation(len(pool))
    muddled = replace(known.factors, memory=Memory(before.keys, before.surplus[mixed]))
    weights = [
        train_router(pool.only(["a", "b"]), encoder, rich=False).heads.kernel.factor_weights
        for encoder in (known, replace(known, factors=muddled))
    ]
    np.testing.assert_array_equal(*weights)


def test_stems_met_twice_with_other_options_are_not_remembered():
    table = whims(400, 3, ("a", "b", "c"))
    twice = (
        "Which is true?\nA. one\nB. two\nC. three",
        "Which is true?\nA. four\nB. five\nC. six",
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
