from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision.exploration import Exploration, explore
from routing.draws import Draws

MODELS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=6, unique=True)


@given(MODELS, st.floats(0.001, 0.5), st.floats(0.0, 1.0, exclude_max=True))
def test_the_propensities_are_a_distribution_and_who_answers_is_in_it(
    models: list[str], share: float, draw: float
) -> None:
    found = Exploration(share, draw, models[0], tuple(models))
    assert sum(found.propensity(model) for model in models) == pytest.approx(1.0)
    assert found.propensity(found.model) > 0.0
    assert found.by_chance or found.model == models[0]


@given(st.binary(min_size=1, max_size=64), st.text(max_size=40))
def test_a_draw_depends_on_seed_and_id_alone(seed: bytes, name: str) -> None:
    draw = Draws(seed).draw(name)
    assert 0.0 <= draw < 1.0
    assert Draws(seed).draw(name) == draw


def test_frequencies_are_the_propensities() -> None:
    draws = Draws(b"seed")
    models = ("a", "b", "c")
    seen = dict.fromkeys(models, 0)
    for index in range(30_000):
        found = explore(0.3, draws.draw(f"r{index}"), "b", models)
        assert found is not None
        seen[found.model] += 1
    assert seen["a"] / 30_000 == pytest.approx(0.1, abs=0.01)
    assert seen["b"] / 30_000 == pytest.approx(0.8, abs=0.01)
    assert seen["c"] / 30_000 == pytest.approx(0.1, abs=0.01)


def test_with_one_feasible_candidate_there_is_nothing_to_explore() -> None:
    assert explore(0.5, 0.1, "a", ["a"]) is None
