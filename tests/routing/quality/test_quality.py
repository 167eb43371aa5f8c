import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.features.text import read
from routing.quality import (
    DEFAULT_ROUTER,
    LearnedQuality,
    ModelPrior,
    explain,
    load_router,
    save_router,
)
from routing.quality.forest import Forest
from routing.quality.kernel import Landmarks
from turnout.errors import ArtifactInvalid

SHIPPED = DEFAULT_ROUTER
SMALL, LARGE = ModelPrior("small-one", 0.55), ModelPrior("large-one", 0.9)
HARD = (
    "Find the degree of the field extension Q(sqrt 2, sqrt 3) over Q and its Galois group.\n"
    "A. 2\nB. 3\nC. 4\nD. 6\nE. 8\nF. 12\nG. 16\nH. 24\nI. 5\nJ. 1"
)
EASY = "Write a python function to reverse a list."


@pytest.fixture(scope="module")
def shipped() -> LearnedQuality:
    return load_router(SHIPPED)


@pytest.mark.parametrize("fast", [True, False])
def test_a_model_without_head_follows_prior_and_difficulty(shipped: LearnedQuality, fast: bool):
    hard = shipped.predict(HARD, [SMALL, LARGE], fast=fast)
    easy = shipped.predict(EASY, [SMALL, LARGE], fast=fast)
    assert hard.dtype == np.float32
    assert (hard < easy).all()
    assert hard[1] > hard[0]
    assert easy[0] - hard[0] > easy[1] - hard[1]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300), st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.booleans())
def test_predictions_are_probabilities_and_rise_with_the_prior(
    prompt: str, a: float, b: float, fast: bool
):
    router = load_router_once()
    low, high = sorted((a, b))
    p = router.predict(prompt, [ModelPrior("x", low), ModelPrior("y", high)], fast=fast)
    assert ((p > 0) & (p < 1)).all()
    assert p[0] <= p[1] + 1e-6


_loaded: list[LearnedQuality] = []


def load_router_once() -> LearnedQuality:
    if not _loaded:
        _loaded.append(load_router(SHIPPED))
    return _loaded[0]


def test_a_proxy_lends_its_head(shipped: LearnedQuality):
    name = shipped.models[0]
    own, proxied, bare = shipped.predict(
        HARD,
        [ModelPrior(name, 0.5), ModelPrior("new", 0.5, proxy=name), ModelPrior("new", 0.5)],
        fast=True,
    )
    assert own == proxied
    assert own != bare


def test_far_from_everything_the_prior_counts(shipped: LearnedQuality):
    encoded = shipped.encoder.encode("zqx vvkj wqp " * 60)
    assert shipped.novelty.trust(encoded) < 0.6
    usual = shipped.encoder.encode("What is the boiling point of water at sea level?")
    assert shipped.novelty.trust(usual) == 1.0


def test_the_explanation_adds_up(shipped: LearnedQuality):
    found = explain(shipped, HARD, [SMALL, LARGE])
    total = sum(part.difficulty for part in found.contributions)
    assert total + shipped.cold_start.bias == pytest.approx(found.difficulty, abs=1e-3)
    assert found.by_head == ()
    assert set(found.p_good) == {"small-one", "large-one"}


def test_of_options_equally_near_the_stem_the_first_counts(shipped: LearnedQuality):
    def at(*options: str) -> float:
        lines = (f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False))
        reading = read("How far is it to the moon?\n" + "\n".join(lines))
        encoder = shipped.encoder
        column = encoder.dense_names.index("nearest_option_at")
        return encoder.raw(reading, encoder.word_ids(reading)[0])[column]

    assert at("bread", "the moon", "3 moon the", "the moon", "4 the moon") == pytest.approx(0.2)
    assert at(*("a mile",) * 5) == 0.0


@given(st.lists(st.sampled_from(["moon", "bread", "zqxv", "vvkj"]), max_size=12))
def test_unknown_words_count_as_unknown_and_no_further(words: list[str]):
    encoder = load_router_once().encoder
    names, unknown = encoder.dense_names, encoder.unknown_column

    def raw(words: list[str]) -> np.ndarray:
        reading = read(" ".join(words))
        return encoder.raw(reading, encoder.word_ids(reading)[0])

    known = [word for word in words if word in encoder.index]
    found, alone = raw(words), raw(known)
    assert found[unknown] == pytest.approx(1.0 - len(known) / (len(words) + 1.0))
    for column in range(names.index("rarity"), len(names)):
        if column != unknown:
            assert found[column] == pytest.approx(alone[column], abs=1e-5)


def test_no_candidates_no_predictions(shipped: LearnedQuality):
    assert shipped.predict(HARD, [], fast=True).shape == (0,)


def test_serving_needs_numpy_only():
    code = (
        "import sys; from routing.quality import load_router; load_router(sys.argv[1]); "
        "bad = {'sklearn', 'lightgbm', 'pandas', 'scipy', 'torch'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SHIPPED)],
        cwd=SHIPPED.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_saved_and_loaded_predict_the_same(shipped: LearnedQuality, tmp_path: Path):
    save_router(shipped, tmp_path, {})
    again = load_router(tmp_path)
    models = [SMALL, ModelPrior(shipped.models[-1], 0.5)]
    np.testing.assert_allclose(
        shipped.predict(HARD, models, fast=True), again.predict(HARD, models, fast=True), atol=1e-5
    )


def test_the_shipped_router_names_its_origin():
    card = json.loads((SHIPPED / "router.json").read_text())
    assert "RouteLLM" in card["origin"]
    assert card["licences"]


def test_no_router_there(tmp_path: Path):
    with pytest.raises(ArtifactInvalid, match=r"router\.json.*turnout router train"):
        load_router(tmp_path)


@pytest.mark.parametrize("name", ["encoder.npz", "heads.npz"])
def test_a_changed_archive_is_refused(shipped: LearnedQuality, tmp_path: Path, name: str):
    save_router(shipped, tmp_path, {})
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactInvalid, match=name):
        load_router(tmp_path)


def test_another_format_is_refused(shipped: LearnedQuality, tmp_path: Path):
    save_router(shipped, tmp_path, {})
    card = json.loads((tmp_path / "router.json").read_text())
    (tmp_path / "router.json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(ArtifactInvalid, match="format"):
        load_router(tmp_path)


def test_likeness_is_one_at_a_landmark_and_falls_with_distance():
    random = np.random.default_rng(0)
    points = random.normal(size=(5, 6)).astype(np.float32)
    marks = Landmarks.at(points[:, :4], points[:, 4:], [1.0, 2.0], [3.0, 3.0])
    near = marks.likeness(points[2])
    assert near.shape == (10,)
    assert near[[2, 7]] == pytest.approx(1.0, abs=1e-4)
    assert (marks.likeness(points[2] + 5.0) < near).all()


def test_all_trees_are_walked_at_once():
    forest = Forest(
        feature=np.array([1, 0, 0, 0], dtype=np.int32),
        threshold=np.array([0.5, np.inf, np.inf, np.inf], dtype=np.float32),
        left=np.array([1, 1, 2, 3], dtype=np.int32),
        right=np.array([2, 1, 2, 3], dtype=np.int32),
        value=np.array([0.0, -1.0, 2.0, 10.0], dtype=np.float32),
        roots=np.array([0, 3], dtype=np.int32),
        factor=np.array([0, 1], dtype=np.int32),
        depth=1,
        loadings=np.eye(2, dtype=np.float32),
        bias=np.zeros(2, dtype=np.float32),
    )
    assert forest.estimate(np.array([0.0, 0.4], dtype=np.float32)).tolist() == [-1.0, 10.0]
    assert forest.estimate(np.array([0.0, 0.6], dtype=np.float32)).tolist() == [2.0, 10.0]
