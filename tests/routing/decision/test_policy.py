from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from routing.decision.policy import POLICIES, cheapest, fastest, shown_ms
from turnout.catalog.route import PolicyName
from turnout.types import Candidate, Prediction

Candidates = st.lists(
    st.builds(
        lambda i, q, t, c: Candidate(f"m{i}", Prediction(q, t, t * 2, c), True),
        st.integers(0, 99), st.floats(0.01, 1), st.floats(1e-4, 10), st.floats(0, 1),
    ),
    min_size=1, max_size=6, unique_by=lambda candidate: candidate.model,
)  # fmt: skip


def candidate(name: str, quality: float, cost: float, p95_s: float = 0.1) -> Candidate:
    return Candidate(name, Prediction(quality, p95_s / 2, p95_s, cost), True)


def test_the_cheap_one_answers_while_it_is_good_enough() -> None:
    cheap, large = candidate("cheap", 0.8, 1.0), candidate("large", 0.9, 5.0)
    assert cheapest([cheap, large], 0.85).candidate is cheap
    choice = cheapest([cheap, large], 0.95)
    assert choice.candidate is large
    assert choice.rule == "quality"
    assert "cheap" in choice.reason


@given(Candidates, st.floats(0, 1))
def test_the_choice_reaches_the_target_and_nothing_cheaper_does(
    feasible: list[Candidate], target: float
) -> None:
    chosen = cheapest(feasible, target).candidate
    needed = target * max(c.prediction.quality for c in feasible)
    assert chosen.prediction.quality >= needed - 1e-6
    for other in feasible:
        if other.prediction.cost_usd < chosen.prediction.cost_usd:
            assert other.prediction.quality < needed


@given(Candidates, st.floats(0, 1), st.sampled_from(sorted(POLICIES)))
def test_every_policy_chooses_a_candidate_whatever_their_order(
    feasible: list[Candidate], target: float, policy: str
) -> None:
    choice = POLICIES[policy](feasible, target)
    assert choice.candidate in feasible
    assert choice.reason
    again = POLICIES[policy](feasible[::-1], target).candidate
    assert again.prediction == choice.candidate.prediction


def test_fastest_takes_the_lowest_p95() -> None:
    assert fastest([candidate("a", 0.9, 1, 0.2), candidate("b", 0.1, 1, 0.1)], 1).rule == "fastest"
    chosen = fastest([candidate("a", 0.9, 1, 0.2), candidate("b", 0.1, 1, 0.1)], 1).candidate
    assert chosen.model == "b"


def test_times_are_said_without_exponents() -> None:
    assert [shown_ms(s) for s in (0.000412, 0.00421, 0.0999, 0.1, 8.7204)] == [
        "0.412 ms", "4.21 ms", "99.9 ms", "100 ms", "8720 ms",
    ]  # fmt: skip


def test_every_policy_that_a_catalog_may_name_has_its_function() -> None:
    assert set(POLICIES) == set(get_args(PolicyName))
