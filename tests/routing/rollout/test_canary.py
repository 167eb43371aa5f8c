from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.rollout.canary import CanaryTest, Part
from turnout.catalog import Rollback

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["production", "canary"]),
        st.booleans(),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.floats(0.0, 10.0)),
        st.one_of(st.none(), st.floats(0.0, 1.0)),
    ),
    max_size=200,
)


class Traffic:
    """Requests of two versions, each with its own rates, a share of them drawn for the canary."""

    def __init__(self, seed: int, share: float = 0.2) -> None:
        self.rng = np.random.default_rng(seed)
        self.share = share

    def run(
        self, n: int, *, failed: tuple[float, float] = (0.01, 0.01),
        late: tuple[float, float] = (0.02, 0.02), median_s: tuple[float, float] = (0.01, 0.01),
        score: tuple[float, float] | None = None, rollback: Rollback | None = None,
    ) -> CanaryTest:  # fmt: skip
        trial = CanaryTest(rollback or Rollback())
        for _ in range(n):
            part: Part = "canary" if self.rng.random() < self.share else "production"
            which = int(part == "canary")
            trial.ended(
                part,
                failed=bool(self.rng.random() < failed[which]),
                late=bool(self.rng.random() < late[which]),
                took_s=float(median_s[which] * self.rng.lognormal(0.0, 0.5)),
            )
            if score is not None and self.rng.random() < 0.3:
                trial.scored(part, float(self.rng.random() < score[which]))
            if trial.worse is not None:
                break
        return trial


def test_a_canary_that_is_no_worse_is_rarely_taken_back_however_often_one_looks() -> None:
    equal = [Traffic(seed).run(2000, score=(0.8, 0.8)) for seed in range(40)]
    assert sum(trial.worse is not None for trial in equal) <= 3
    within = [
        Traffic(seed).run(2000, failed=(0.05, 0.06), median_s=(0.01, 0.012)) for seed in range(40)
    ]
    assert sum(trial.worse is not None for trial in within) <= 3


@pytest.mark.parametrize(
    ("what", "rates"),
    [
        ("failed", {"failed": (0.0, 1.0)}),
        ("failed", {"failed": (0.01, 0.3)}),
        ("late", {"late": (0.02, 0.4)}),
        ("slow", {"median_s": (0.01, 0.1)}),
        ("unhappy", {"score": (0.9, 0.3)}),
    ],
    ids=["fails", "fails-often", "late", "slow", "unhappy"],
)
def test_a_canary_that_is_worse_is_taken_back_for_what_is_worse(
    what: str, rates: dict[str, tuple[float, float]]
) -> None:
    trials = [Traffic(seed).run(3000, **rates) for seed in range(10)]
    assert [trial.worse for trial in trials] == [what] * 10
    assert float(np.median([trial.requests["canary"] for trial in trials])) < 150
    assert all(trial.verdict == "worse" and trial.why.startswith(what) for trial in trials)


def test_a_canary_that_always_fails_costs_few_requests() -> None:
    trial = Traffic(0).run(3000, failed=(0.0, 1.0))
    assert trial.requests["canary"] <= 16


def test_a_sound_canary_is_called_sound_and_one_just_over_the_margin_is_not() -> None:
    sound = [Traffic(seed).run(12000) for seed in range(5)]
    assert [trial.verdict for trial in sound] == ["sound"] * 5
    over = Rollback(failed=0.03, false_alarm=1e-9)
    worse = [Traffic(seed).run(2000, failed=(0.0, 0.04), rollback=over) for seed in range(20)]
    assert sum(trial.verdict == "sound" for trial in worse) <= 2


@pytest.mark.parametrize("what", ["needed", "enough"])
def test_several_trials_of_one_canary_share_both_kinds_of_error(what: str) -> None:
    def limit(testers: int) -> float:
        return CanaryTest(Rollback(), testers).state()["tests"]["failed"][what]

    assert limit(4) == pytest.approx(4 * limit(1))


@given(EVENTS)
def test_a_verdict_of_worse_stays_and_the_evidence_is_plain(
    events: list[tuple[Part, bool, bool | None, float | None, float | None]],
) -> None:
    trial = CanaryTest(Rollback())
    worse = None
    for part, failed, late, took_s, score in events:
        trial.ended(part, failed=failed, late=late, took_s=took_s)
        if score is not None:
            trial.scored(part, score)
        assert worse is None or trial.worse == worse
        worse = trial.worse
        assert (trial.verdict == "worse") == (worse is not None)
    state = trial.state()
    assert sum(state["requests"].values()) == len(events)
    assert all(0.0 <= test["against"] <= 1e12 for test in state["tests"].values())
    assert state["tests"]["unhappy"]["pairs"] <= len(events)


def test_what_says_nothing_of_the_time_counts_as_neither_late_nor_slow() -> None:
    trial = CanaryTest(Rollback())
    for _ in range(100):
        trial.ended("production", failed=False, late=False, took_s=0.01)
        trial.ended("canary", failed=False, late=None, took_s=None)
    tests = trial.state()["tests"]
    assert (tests["failed"]["pairs"], tests["late"]["pairs"], tests["slow"]["pairs"]) == (100, 0, 0)
    assert trial.requests["canary"] == 100
