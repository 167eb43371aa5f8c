"""The fuller tier's kernel on all training prompts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routing.quality import DEFAULT_ROUTER, ModelPrior, load_router, save_router
from routing.quality.encoder import Encoder, Vocabulary
from routing.training.exact import NOISE, fit_exact
from routing.training.fit import train_router
from routing.training.kernel import FACTOR_SCALE, between
from tests.routing import tables
from turnout.errors import ArtifactInvalid

SHIPPED = DEFAULT_ROUTER


def encoder() -> Encoder:
    return load_router(SHIPPED).encoder


def made_up(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    dense = random.normal(size=(n, len(encoder().dense_names))).astype(np.float32)
    factors = random.normal(size=(n, encoder().n_factors)).astype(np.float32)
    score = (dense[:, :1] + factors[:, -1:] + random.normal(size=(n, 2)) > 0).astype(float)
    return dense, factors, score


def test_it_is_ridge_regression_on_all_prompts_and_what_is_remembered_of_them():
    dense, factors, score = made_up(60)
    heads = fit_exact(dense, factors, encoder(), score, seed=0)
    smooth = encoder().n_smooth
    assert 0 < smooth < factors.shape[1]
    remembered = FACTOR_SCALE * (factors - factors.mean(axis=0))[:, smooth:]
    order = np.random.default_rng(0).permutation(60)
    kernel = between(heads.landmarks) + remembered[order] @ remembered[order].T
    weights = np.linalg.solve(kernel + NOISE * np.eye(60), score[order] - score.mean(axis=0))
    expected = score.mean(axis=0) + kernel @ weights
    assert (heads.factor_weights[:smooth] == 0.0).all()
    for row, want in zip(order[:5], expected[:5], strict=True):
        np.testing.assert_allclose(heads.estimate(dense[row], factors[row]), want, atol=5e-3)


def test_a_model_is_fitted_on_the_questions_it_answered():
    dense, factors, score = made_up(80)
    whole = fit_exact(dense, factors, encoder(), score, seed=0)
    score[:40, 1] = np.nan
    part = fit_exact(dense, factors, encoder(), score, seed=0)
    unanswered = np.random.default_rng(0).permutation(80) < 40
    assert (part.weights[unanswered, 1] == 0.0).all()
    assert (part.weights[~unanswered, 1] != 0.0).all()
    np.testing.assert_allclose(part.weights[:, 0], whole.weights[:, 0], atol=1e-4)


def test_the_fuller_tier_uses_it_and_it_survives_saving(tmp_path: Path):
    router = train_router(tables.outcomes(tmp_path, 320), encoder())
    exact = router.heads.exact
    assert exact is not None
    assert router.heads.grams is not None
    assert len(exact.weights) == 320
    assert router.heads.weights[3] > 0.0
    save_router(router, tmp_path / "router", {})
    again = load_router(tmp_path / "router")
    pair = [ModelPrior("small", 0.5), ModelPrior("large", 0.5)]
    prompt = "Prove that every finite group of order 12 is solvable."
    np.testing.assert_allclose(
        router.predict(prompt, pair, fast=False), again.predict(prompt, pair, fast=False), atol=1e-4
    )


def test_a_vocabulary_gives_unknown_words_a_bucket_behind_its_rows():
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary["b"] == 1
    assert vocabulary["zebra"] >= 2
    assert len(vocabulary) == 2


def test_a_fuller_router_without_a_part_is_refused(tmp_path: Path):
    router = train_router(tables.outcomes(tmp_path, 320), encoder())
    partial = replace(router, heads=replace(router.heads, grams=None))
    save_router(partial, tmp_path / "router", {})
    with pytest.raises(ArtifactInvalid, match="has no 'grams_idf'; train it again"):
        load_router(tmp_path / "router")
