from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.pool.leaks import Leaks, Suspect

MIB = 1024**2
NAMES = ("a", "b", "c")


def traffic(
    leaks: Leaks,
    a_run: Mapping[str, float],
    periods: int,
    *,
    noise: float = 0.0,
    every: float = 0.0,
    seed: int = 1,
) -> None:
    """Random runs of three models, ``a`` the busiest; each gains what it is said to.

    Args:
        leaks: what learns.
        a_run: bytes a run of a model gains.
        periods: how many.
        noise: deviation of memory that comes and goes.
        every: bytes that every run gains, whichever model's.
        seed: of the chances.
    """
    random = np.random.default_rng(seed)
    level = 0.0
    for _ in range(periods):
        counts = random.poisson((8, 2, 1))
        runs = {name: int(count) for name, count in zip(NAMES, counts, strict=True)}
        gained = sum((a_run.get(name, 0.0) + every) * count for name, count in runs.items())
        before, level = level, noise * random.normal()
        leaks.observe(runs, gained + level - before)


def named(leaks: Leaks, size: int = MIB) -> Suspect | None:
    return leaks.suspect(dict.fromkeys(NAMES, size))


@pytest.mark.parametrize("ill", NAMES)
def test_the_one_that_leaks_is_found_among_others_and_with_its_rate(ill: str) -> None:
    leaks = Leaks(8 * MIB)
    traffic(leaks, {ill: MIB / 8}, periods=300, noise=MIB / 8)
    found = named(leaks)
    assert found is not None
    assert found[0] == ill
    assert found[1] == pytest.approx(MIB / 8, rel=0.3)
    leaks.start_over()
    assert named(leaks) is None


def test_it_is_found_soon_after_it_has_gained_what_counts() -> None:
    leaks = Leaks(8 * MIB)
    traffic(leaks, {"b": MIB / 8}, periods=30, noise=MIB / 16)
    assert named(leaks) is None  # 60 runs: 7.5 MiB
    traffic(leaks, {"b": MIB / 8}, periods=40, noise=MIB / 16)
    found = named(leaks)
    assert found is not None
    assert found[0] == "b"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 4.0), st.floats(0.0, 0.5))
def test_what_every_request_leaves_behind_and_noise_are_no_models_leak(
    seed: int, every_kib: float, noise_mib: float
) -> None:
    leaks = Leaks(8 * MIB)
    traffic(leaks, {}, 600, noise=noise_mib * MIB, every=every_kib * 1024, seed=seed)
    assert named(leaks) is None


def test_growth_that_ends_is_no_leak() -> None:
    leaks = Leaks(8 * MIB)
    leaks.observe({"a": 1}, 200 * MIB)
    traffic(leaks, {}, periods=10, every=MIB / 4)
    traffic(leaks, {}, periods=300)
    assert named(leaks) is None
    leaks.observe({}, MIB)


def test_a_model_that_leaks_is_found_though_it_has_the_process_to_itself() -> None:
    leaks = Leaks(8 * MIB)
    for _ in range(100):
        leaks.observe({"a": 2}, MIB / 4)
    found = leaks.suspect({"a": MIB})
    assert found is not None
    assert found[1] == pytest.approx(MIB / 8, rel=0.3)


def test_what_a_leak_must_gain_grows_with_the_model() -> None:
    leaks = Leaks(8 * MIB)
    traffic(leaks, {"a": MIB / 8}, periods=50)
    assert named(leaks, size=8 * MIB) is not None
    assert named(leaks, size=100 * MIB) is None


def test_traffic_that_comes_in_step_names_the_one_whose_runs_fit_the_growth() -> None:
    leaks, random = Leaks(8 * MIB), np.random.default_rng(2)
    for _ in range(60):
        sound = random.multinomial(12, [0.4, 0.3, 0.2, 0.1])
        runs = {f"sound-{i}": int(count) for i, count in enumerate(sound)}
        leaks.observe(runs | {"leaky": 2}, MIB / 4 + MIB / 16 * random.normal())
    found = leaks.suspect(dict.fromkeys((*runs, "leaky"), MIB))
    assert found is not None
    assert found.name == "leaky"


def test_one_that_is_cleared_makes_way_for_the_other_that_runs_as_often() -> None:
    leaks = Leaks(8 * MIB)
    for _ in range(60):
        leaks.observe({"a": 2, "b": 2}, MIB / 4)
    sizes = {"a": MIB, "b": MIB}
    first = leaks.suspect(sizes)
    assert first is not None
    leaks.clear(first.name)
    second = leaks.suspect(sizes)
    assert second is not None
    assert {first.name, second.name} == {"a", "b"}
    leaks.clear(second.name)
    assert leaks.suspect(sizes) is None
