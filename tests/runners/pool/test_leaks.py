from __future__ import annotations

import numpy as np
import pytest

from runners.pool.leaks import Leaks

MIB = 1024**2


def traffic(leaks: Leaks, a_run: dict[str, float], periods: int, noise: float = 0.0) -> None:
    random = np.random.default_rng(1)
    level = 0.0
    for _ in range(periods):
        runs = {name: int(random.poisson(5)) for name in ("a", "b", "c")}
        gained = sum(a_run.get(name, 0.0) * count for name, count in runs.items())
        before, level = level, noise * random.normal()
        leaks.observe(runs, gained + level - before)


def test_the_one_that_leaks_is_found_among_others_and_with_its_rate() -> None:
    leaks = Leaks(64 * MIB)
    traffic(leaks, {"b": MIB}, periods=120, noise=MIB)
    assert leaks.leaking("b", 8 * MIB) == pytest.approx(MIB, rel=0.4)
    assert leaks.leaking("a", 8 * MIB) is None
    assert leaks.leaking("c", 8 * MIB) is None
    leaks.forget("b")
    assert leaks.leaking("b", 8 * MIB) is None


def test_growth_that_ends_and_noise_are_no_leak() -> None:
    leaks = Leaks(64 * MIB)
    leaks.observe({"a": 1}, 200 * MIB)
    traffic(leaks, {}, periods=200, noise=3 * MIB)
    assert not any(leaks.leaking(name, 8 * MIB) for name in ("a", "b", "c"))
    leaks.observe({}, MIB)
