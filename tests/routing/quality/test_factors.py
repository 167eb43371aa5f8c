"""Transfer: what a pool of models found easy helps a pair with few labels of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routing.quality import DEFAULT_ROUTER, ModelPrior, load_router, save_router
from routing.training.factors import Pretrained, pretrain
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes
from tests.routing import tables

SHIPPED = DEFAULT_ROUTER
PAIR = [ModelPrior("small", 0.5), ModelPrior("large", 0.5)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return tables.outcomes(tmp_path_factory.mktemp("pool"), 600, seed=7)


@pytest.fixture(scope="module")
def pretrained(pool: Outcomes) -> Pretrained:
    return pretrain([pool], replace(load_router(SHIPPED).encoder, factors=None))


def hardness(pool: Outcomes) -> np.ndarray:
    return np.array([group == "algebra" for group in pool.groups], dtype=float)


def test_the_first_factor_is_how_easy_a_prompt_is(pool: Outcomes, pretrained: Pretrained):
    easy = np.array([pretrained.encoder.encode(p).factors[0] for p in pool.prompts])
    assert np.corrcoef(easy, hardness(pool))[0, 1] < -0.8
    assert abs(easy.mean()) < 0.05


def test_crossed_factors_follow_the_same_directions(pool: Outcomes, pretrained: Pretrained):
    plain = np.stack([pretrained.encoder.encode(p).factors for p in pool.prompts])
    crossed = pretrained.crossed[0]
    assert crossed.shape == plain.shape
    assert np.corrcoef(plain[:, 0], crossed[:, 0])[0, 1] > 0.9


def test_few_labels_suffice_with_a_pool_behind_them(pretrained: Pretrained, tmp_path: Path):
    few = tables.outcomes(tmp_path, 24, seed=1)
    fresh = tables.outcomes(tmp_path, 300, seed=2)
    spread = {}
    for name, encoder in (
        ("with", pretrained.encoder),
        ("without", replace(pretrained.encoder, factors=None)),
    ):
        router = train_router(few, encoder)
        p = np.stack([router.predict(prompt, PAIR, fast=True) for prompt in fresh.prompts])
        spread[name] = float(np.corrcoef(p[:, 1] - p[:, 0], hardness(fresh))[0, 1])
    assert spread["with"] > 0.8
    assert spread["with"] >= spread["without"] - 0.02


def test_factors_survive_saving(pretrained: Pretrained, tmp_path: Path):
    router = train_router(tables.outcomes(tmp_path, 60, seed=1), pretrained.encoder)
    save_router(router, tmp_path / "router", {})
    again = load_router(tmp_path / "router")
    prompt = "Prove that every finite abelian group is solvable."
    np.testing.assert_allclose(
        router.predict(prompt, PAIR, fast=True), again.predict(prompt, PAIR, fast=True), atol=1e-4
    )
