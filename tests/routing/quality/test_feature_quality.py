"""Heads for rows of numbers: what they learn, where they stay silent, and their way to disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.evaluation.calibration import reliability
from routing.quality.boosted_pairs import BoostedPairs
from routing.quality.feature_artifact import (
    is_feature_router,
    load_feature_router,
    save_feature_router,
)
from routing.quality.feature_explain import explain_row
from routing.quality.feature_quality import MAX_ROWS, FeatureQuality, row_predictor
from routing.training.feature_fit import came_true, train_features
from routing.training.outcomes import read_outcomes
from tests.routing import rows
from turnout.errors import ArtifactInvalid, DataError, TooFewOutcomes

HARD = np.array([[2.0, 1.0, 0.0]], np.float32)
EASY = np.array([[-1.0, 1.0, 0.0]], np.float32)


@pytest.fixture(scope="module")
def quality(tmp_path_factory: pytest.TempPathFactory) -> FeatureQuality:
    return train_features(rows.outcomes(tmp_path_factory.mktemp("rows")), origin="made up")


def test_it_learns_who_fails_what_and_means_what_it_says(
    quality: FeatureQuality, tmp_path: Path
) -> None:
    small, large = (quality.models.index(name) for name in ("small", "large"))
    hard, easy = quality.predict(HARD)[0], quality.predict(EASY)[0]
    assert hard[large] - hard[small] > 0.4
    assert abs(easy[large] - easy[small]) < 0.1
    unseen = rows.outcomes(tmp_path, 3000, seed=1)
    p_good = quality.predict(unseen.features.astype(np.float32)).astype(np.float64)
    for column in (small, large):
        assert reliability(p_good[:, column], unseen.score[:, column]).ece < 0.03


def test_features_that_tell_nothing_are_not_looked_at(tmp_path: Path) -> None:
    silent = train_features(rows.outcomes(tmp_path, 400, told=False))
    assert (
        silent.constant or np.ptp(silent.predict(np.eye(3, dtype=np.float32)), axis=0).max() < 0.1
    )
    no_news = np.random.default_rng(0).normal(size=(2, 400))
    assert came_true(no_news[0] * 0, no_news[1]) == 0.0
    assert came_true(no_news[0], -no_news[0]) == 0.0
    assert came_true(no_news[0], 2 * no_news[0]) == pytest.approx(2.0)


def test_far_from_what_was_seen_it_says_the_base_rates(quality: FeatureQuality) -> None:
    far = HARD * 1e4
    np.testing.assert_allclose(quality.predict(far)[0], quality.base_rate, atol=1e-3)
    lost = np.array([[np.nan, 0.0, np.inf]], np.float32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(quality.predict(lost)[0], quality.base_rate, atol=1e-3)


def test_a_request_is_worth_the_mean_of_its_rows(quality: FeatureQuality) -> None:
    mixed = np.concatenate([HARD, EASY])
    np.testing.assert_allclose(
        quality.of_request(mixed), quality.predict(mixed).mean(axis=0), rtol=1e-6
    )
    many = np.tile(mixed, (5 * MAX_ROWS, 1))
    assert quality.of_request(many) == pytest.approx(quality.of_request(mixed), abs=0.05)
    assert quality.of_request(HARD) == pytest.approx(quality.predict(HARD)[0].tolist())


def test_a_look_at_one_row_says_the_same(quality: FeatureQuality, tmp_path: Path) -> None:
    look = row_predictor(quality)
    seen = rows.outcomes(tmp_path, 50, seed=2).features.astype(np.float32)
    edge = quality.centre + quality.usual / quality.inverse_scale
    lost = np.array([np.nan, 0.0, 0.0], np.float32)
    with np.errstate(invalid="ignore"):
        for row in (*seen, edge, edge * 1.01, -edge * 30, lost):
            expected = quality.predict(row[None].astype(np.float32))[0]
            assert look(row.astype(np.float32)) == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_no_row_can_change_is_settled(quality: FeatureQuality) -> None:
    assert quality.settled(("small", "large"), 0.01)
    assert not quality.settled(("small", "large"), 0.9)
    assert quality.settled(("large", "small"), 0.5)


def test_models_that_answered_different_rows_are_learned_apart(tmp_path: Path) -> None:
    table = rows.frame(3000)
    half = table[(table.index % 4).isin([0, 3])]
    path = tmp_path / "half.parquet"
    half.to_parquet(path, index=False)
    found = train_features(read_outcomes([path]))
    hard = dict(zip(found.models, found.predict(HARD)[0].tolist(), strict=True))
    assert hard["large"] - hard["small"] > 0.3


def test_a_few_missing_answers_cost_no_gain(tmp_path: Path) -> None:
    table = rows.frame(2000).drop(index=range(0, 400, 4))
    path = tmp_path / "most.parquet"
    table.to_parquet(path, index=False)
    found = train_features(read_outcomes([path]))
    hard = dict(zip(found.models, found.predict(HARD)[0].tolist(), strict=True))
    assert hard["large"] - hard["small"] > 0.4


def test_an_explanation_names_the_feature(quality: FeatureQuality) -> None:
    found = explain_row(quality, HARD[0])
    assert next(iter(found.contributions)) == "amount"
    assert found.gain_of == ("large", "small")
    assert found.gain > 0.4
    assert found.trust == 1.0


def test_it_comes_back_from_disk_as_it_was(quality: FeatureQuality, tmp_path: Path) -> None:
    save_feature_router(quality, tmp_path, {"questions": 2000})
    assert is_feature_router(tmp_path)
    again = load_feature_router(tmp_path)
    np.testing.assert_array_equal(again.predict(HARD), quality.predict(HARD))
    assert (again.models, again.names, again.origin) == (quality.models, rows.NAMES, "made up")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda folder: (folder / "heads.npz").write_bytes(b"x"), "not the file"),
        (lambda folder: (folder / "heads.npz").unlink(), "cannot be read"),
        (lambda folder: (folder / "router.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "router.json").write_text("{}"), "trained on prompts"),
        (lambda folder: (folder / "router.json").unlink(), "no router.json"),
    ],
)
def test_a_spoiled_router_is_refused(
    quality: FeatureQuality, tmp_path: Path, spoil: object, what: str
) -> None:
    save_feature_router(quality, tmp_path, {})
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(ArtifactInvalid, match=what):
        load_feature_router(tmp_path)


@given(
    st.lists(
        st.tuples(*[st.tuples(st.integers(0, 2), st.floats(-2, 2, width=32))] * 3,
                  st.tuples(*[st.floats(-1, 1, width=32)] * 4)),
        max_size=6,
    ),
    st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3),
)  # fmt: skip
def test_trees_side_by_side_are_the_trees_one_by_one(
    trees: list[tuple[tuple[int, float], ...]], row: list[float]
) -> None:
    def walk(tree: tuple[tuple[int, float], ...]) -> float:
        (root, left, right), (a, b, c, d) = tree[:3], tree[3]
        if row[root[0]] > root[1]:
            return d if row[right[0]] > right[1] else c
        return b if row[left[0]] > left[1] else a

    leaves = [tree[3] for tree in trees]
    weights = [[c - a for a, b, c, d in leaves], [b - a for a, b, c, d in leaves],
               [a - b for a, b, c, d in leaves], [d - c for a, b, c, d in leaves]]  # fmt: skip
    asked = [tree[side] for side in range(3) for tree in trees]
    together = BoostedPairs(
        np.array([feature for feature, _ in asked], np.int32),
        np.array([threshold for _, threshold in asked], np.float32),
        np.array(weights, np.float32).reshape(-1, 1),
        np.array([sum(leaf[0] for leaf in leaves)], np.float32),
    )
    found = together.estimate(np.array([row], np.float32))
    assert found[0, 0] == pytest.approx(sum(walk(tree) for tree in trees), abs=1e-4)


def test_many_rows_are_estimated_in_blocks(quality: FeatureQuality) -> None:
    many = np.tile(np.concatenate([HARD, EASY]), (5_000, 1))
    found = quality.predict(many)
    np.testing.assert_allclose(found, np.tile(found[:2], (5_000, 1)), rtol=1e-5)


# -- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("how", ["parquet", "jsonl", "text"])
def test_features_come_as_lists_or_by_name(tmp_path: Path, named: bool, how: str) -> None:
    table = rows.frame(10, named=named)
    path = tmp_path / ("t.parquet" if how == "parquet" else "t.jsonl")
    if how == "text":
        table["features"] = table["features"].map(json.dumps)
    if how == "parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    found = read_outcomes([path])
    assert found.feature_names == (rows.NAMES if named else ("f0", "f1", "f2"))
    assert found.features.shape == (10, 3)
    first = table["features"][0]
    values = json.loads(first) if how == "text" else first
    expected = list(values.values()) if named else values
    np.testing.assert_allclose(found.features[0], expected, rtol=1e-6)
    assert found.take(np.array([3])).features.shape == (1, 3)
    assert set(found.only(["small"]).models) == {"small"}


@pytest.mark.parametrize(
    ("features", "what"),
    [
        ([[1.0], [1.0, 2.0]], "row 2: features must be a list of 1 numbers"),
        ([[1.0], {"a": 1.0}], "row 2: features must be"),
        ([{"a": 1.0}, {"b": 1.0}], "row 2: features must be named a"),
        ([[1.0], ["x"]], "row 2: feature 'f0' is 'x'"),
        ([[1.0], [None]], "row 2: feature 'f0' is None"),
        (["[1", "[2"], "row 1: features must be"),
        ([[], []], "row 1: features must be"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, features: list[object], what: str) -> None:
    path = tmp_path / "bad.jsonl"
    lines = [
        {"query_id": str(i), "features": value, "model": "m", "score": 1.0}
        for i, value in enumerate(features)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=what):
        read_outcomes([path])


def test_prompts_and_features_do_not_mix(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    rows.frame(5).to_json(one, orient="records", lines=True)
    both = pd.DataFrame([{"query_id": "a", "prompt": "Hi", "model": "small", "score": 1.0}])
    both.to_json(two, orient="records", lines=True)
    with pytest.raises(DataError, match="one kind"):
        read_outcomes([one, two])
    with pytest.raises(TooFewOutcomes, match="too few"):
        train_features(read_outcomes([one]))


# -- once the first answer is there ---------------------------------------------------------------


def with_confidence(n: int, seed: int = 0) -> pd.DataFrame:
    """The small model is unsure where it fails, but also where the large one would fail, too."""
    table = rows.frame(n, seed)
    random = np.random.default_rng(seed + 100)
    wide = table.pivot_table(index="query_id", columns="model", values="score", sort=False)
    hopeless = random.random(n) < 0.3
    unsure = (wide["small"].to_numpy() < 0.5) | hopeless
    small = table["model"] == "small"
    table.loc[small, "confidence"] = np.where(unsure, 0.3, 0.9) + 0.1 * random.random(n)
    return table


def test_a_second_answer_is_worth_what_row_and_confidence_say(tmp_path: Path) -> None:
    path = tmp_path / "seen.parquet"
    with_confidence(3000).to_parquet(path, index=False)
    found = train_features(read_outcomes([path]))
    assert set(found.after) == {"small"}
    cases = np.concatenate([HARD, HARD, EASY, HARD * 1e4])
    sure = np.array([0.35, 0.95, 0.95, 0.35], np.float32)
    hard_unsure, hard_sure, easy_sure, far = found.gain_after("small", "large", cases, sure)
    assert hard_unsure > 0.5
    assert hard_unsure > hard_sure + 0.2
    assert abs(easy_sure) < 0.1
    assert np.isnan(far)
    save_feature_router(found, tmp_path / "router", {})
    again = load_feature_router(tmp_path / "router")
    np.testing.assert_array_equal(
        again.gain_after("small", "large", cases, sure)[:3], [hard_unsure, hard_sure, easy_sure]
    )


@pytest.mark.parametrize("confidence", [1.5, -0.1, "high"])
def test_a_confidence_is_between_zero_and_one(tmp_path: Path, confidence: object) -> None:
    path = tmp_path / "bad.jsonl"
    line = {"query_id": "a", "features": [1], "model": "m", "score": 1, "confidence": confidence}
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="row 1: column 'confidence'"):
        read_outcomes([path])
