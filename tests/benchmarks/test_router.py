"""The router's benchmark: what it holds apart, and what it finds where much can be learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import router
from benchmarks.router_cases import Case, family, folds, pretrained, random_folds, stems
from benchmarks.router_measure import measure, within
from routing.training.outcomes import read_outcomes
from tests.routing import tables

CASE = Case("made up", "own.parquet", "small", "large", ("own.parquet", "others.parquet"), folds=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One table with the pair and two models more, one with two models on other questions."""
    folder = tmp_path_factory.mktemp("data")
    pair = tables.frame(330, 0)
    more = pair.replace({"model": {"small": "third", "large": "fourth"}})
    pd.concat([pair, more]).to_parquet(folder / "own.parquet", index=False)
    tables.frame(330, 1).replace({"model": {"small": "fifth", "large": "sixth"}}).to_parquet(
        folder / "others.parquet", index=False
    )
    return folder


def test_a_learnable_world_is_learned(data: Path):
    found = measure(CASE, data, {}, quick=False)
    apgr = found["apgr"]
    assert apgr["oracle"] > apgr["full"] > 0.6 > apgr["random"] > 0.3
    assert apgr["fast"] > 0.6
    low, high = found["full_95"]
    assert low <= apgr["full"] <= high
    assert found["met_share"] > 0.9
    assert apgr["met"] > 0.6
    assert found["full_less_reference"][0] == pytest.approx(apgr["full"] - apgr["reference"])
    assert found["fresh"]["questions"] < found["questions"] == 330


def test_the_router_that_ships_is_judged_on_questions_held_back_at_random(data: Path):
    case = replace(CASE, as_shipped=True, limit=100)
    whole = read_outcomes([data / "own.parquet"])
    parts = random_folds(case, whole)
    assert sorted(np.concatenate([test for _, test in parts]).tolist()) == list(range(len(whole)))
    assert not any(set(train.tolist()) & set(test.tolist()) for train, test in parts)
    found = measure(case, data, {}, quick=False)["as_shipped"]
    assert found["full"] > 0.6
    assert found["full_of_new"] == found["full"]
    assert found["met_share"] == 0.0
    low, high = found["full_less_reference"][1:]
    assert low <= found["full"] - found["reference"] <= high


def test_two_jobs_find_what_one_finds(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which jobs set, and nobody should inherit
    case = Case("few", "own.parquet", "small", "large", ("others.parquet",), folds=2, limit=60)
    one = [found["apgr"] for _, found in router.measured([case], data, 1, quick=False)]
    two = [found["apgr"] for _, found in router.measured([case], data, 2, quick=False)]
    for name, value in one[0].items():
        assert two[0][name] == pytest.approx(value, abs=0.02), name


def test_gains_are_ranked_within_their_fold():
    parts = [(np.array([0, 2]), 10), (np.array([1, 3]), 10)]
    place = within(parts, np.array([5.0, 0.1, 7.0, 0.2]))
    assert place.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_no_stem_is_on_both_sides(data: Path):
    whole = read_outcomes([data / "own.parquet"])
    for train, test in folds(CASE, whole):
        assert not set(stems(whole.take(train))) & set(stems(whole.take(test)))
        assert len(train) + len(test) == len(whole)


def test_the_pool_knows_no_test_question_and_no_family_of_the_pair(data: Path):
    whole = read_outcomes([data / "own.parquet"])
    train, test = folds(CASE, whole)[0]
    strict, met = pretrained(CASE, whole, train, data), pretrained(CASE, whole, None, data)
    assert strict.factors is not None
    assert met.factors is not None
    assert strict.factors.models == (("fourth", "third"), ("fifth", "sixth"))
    asked = [whole.prompts[row] for row in test]
    assert not any(strict.factors.memory.of(prompt).any() for prompt in asked)
    assert all(met.factors.memory.of(prompt).any() for prompt in asked)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Mixtral-8x7B-v0.1", "mistral-7b"), ("Meta-Llama-3_1-8B", "llama3-70b"), ("Yi-6B", "Yi-34B")],
)
def test_relatives_are_of_one_family(one: str, other: str):
    assert family(one) == family(other)
    assert family(one) != family("gemma-7b")
