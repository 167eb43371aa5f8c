from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision.budget_control import BudgetController, Steer
from routing.decision.policy import POLICIES, Choice, priced
from turnout.catalog import Route
from turnout.types import Candidate, Prediction, Task

SHARES = st.floats(0.0, 1.0)
PAIRS = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=400)
STRENGTH = {"small": 0.5, "large": 0.9}


def route(**knobs: object) -> Route:
    return Route.model_validate(
        {
            "task": Task.CHAT,
            "candidates": ["small", "large"],
            "latency_class": "interactive",
            "target_quality": 1.0,
        }
        | knobs
    )


def pair(small: float, large: float, usd: tuple[float, float] = (1e-4, 1e-3)) -> list[Candidate]:
    qualities = {"small": small, "large": large}
    return [
        Candidate(name, Prediction(quality, 0.1, 0.2, cost), True)
        for (name, quality), cost in zip(qualities.items(), usd, strict=True)
    ]


def run(
    control: BudgetController, one: Route, feasible: Sequence[Candidate], now_s: float = 0.0
) -> Choice:
    steer = control.steer("interactive", now_s)
    choice = priced(feasible, POLICIES[one.policy](feasible, steer.target), steer)
    control.chose("interactive", choice.candidate, feasible, steer, now_s)
    return choice


@given(PAIRS, SHARES, st.sampled_from(["cheapest", "best"]))
def test_the_strong_share_is_held_whatever_comes(
    pairs: list[tuple[float, float]], limit: float, policy: str
) -> None:
    one = route(max_strong_share=limit, policy=policy)
    control = BudgetController(one, STRENGTH)
    strong = sum(run(control, one, pair(*each)).candidate.model == "large" for each in pairs)
    assert strong <= limit * len(pairs) + 1.05 / 0.05 + 1e-6


@given(PAIRS, st.floats(0.5, 1.0))
def test_the_average_quality_reaches_its_share_of_the_best_whatever_comes(
    pairs: list[tuple[float, float]], target: float
) -> None:
    one = route(target_quality=target, target_holds="average")
    control = BudgetController(one, STRENGTH)
    had = sum(run(control, one, pair(*each)).candidate.prediction.quality for each in pairs)
    assert had >= target * sum(max(each) for each in pairs) - 1.05 / 0.05 - 1e-6


@given(PAIRS, st.floats(0.01, 10.0), st.floats(0.01, 5.0))
def test_spending_stays_within_the_budget_where_the_cheap_model_fits_it(
    pairs: list[tuple[float, float]], step_s: float, room: float
) -> None:
    cheap_usd, dear_usd = 1e-4, 1e-3
    budget = (cheap_usd + room * (dear_usd - cheap_usd)) * 3600.0 / step_s
    one = route(budget_usd_per_hour=budget)
    control = BudgetController(one, STRENGTH)
    for index, each in enumerate(pairs):
        run(control, one, pair(*each), index * step_s)
    hours = (len(pairs) - 1) * step_s / 3600.0
    # A price of 1/(1 - cheap/dear) forbids every dear answer; it is reached at that share of the
    # horizon, one hundredth of an hour. One more dear answer may have been under way.
    most_debt = budget * 0.01 / (1.0 - cheap_usd / dear_usd)
    assert control.spent_usd <= budget * hours + most_debt + 2 * dear_usd


def test_held_on_average_is_cheaper_than_held_for_each() -> None:
    def strong(**knobs: object) -> int:
        one = route(target_quality=0.9, **knobs)
        control = BudgetController(one, STRENGTH)
        ways = [pair(0.1 + 0.08 * (i % 11), 0.95) for i in range(2000)]
        return sum(run(control, one, each).candidate.model == "large" for each in ways)

    assert strong(target_holds="average") < 0.9 * strong()


def test_the_strong_share_goes_where_the_gain_is_largest() -> None:
    one = route(max_strong_share=0.5)
    control = BudgetController(one, STRENGTH)
    picked = [
        (gain, run(control, one, pair(0.9 - gain, 0.9)).candidate.model)
        for gain in [0.1, 0.5] * 500
    ]
    settled = picked[100:]
    assert all(model == "large" for gain, model in settled if gain == 0.5)
    assert sum(model == "large" for gain, model in settled if gain == 0.1) <= 25


def test_the_reason_names_the_knob() -> None:
    one = route(max_strong_share=0.1)
    control = BudgetController(one, STRENGTH)
    choices = [run(control, one, pair(0.8, 0.9)) for _ in range(20)]
    assert choices[0].rule == "quality"
    assert choices[-1].rule == "strong_share"
    assert "max_strong_share" in choices[-1].reason
    spender = route(budget_usd_per_hour=1e-3)
    control = BudgetController(spender, STRENGTH)
    choices = [run(control, spender, pair(0.8, 0.9), float(i)) for i in range(20)]
    assert choices[-1].rule == "budget"
    assert "budget_usd_per_hour" in choices[-1].reason


def test_quiet_times_are_not_saved_up_and_debts_are_bounded() -> None:
    one = route(budget_usd_per_hour=1.0, max_strong_share=0.2)
    control = BudgetController(one, STRENGTH)
    run(control, one, pair(0.1, 0.9), 0.0)
    run(control, one, pair(0.1, 0.9), 3600.0 * 24)
    assert control.state(3600.0 * 24)["budget_debt_usd"] <= 1e-3
    for _ in range(10_000):
        control.escalated(1, 1, 1.0)
    assert control.state(3600.0 * 24)["budget_debt_usd"] <= 0.05 + 1e-9
    assert control.state(3600.0 * 24)["share_price"] <= 2.0


def test_a_decision_without_a_choice_does_not_wind_the_controller_up() -> None:
    one = route(max_strong_share=0.1)
    control = BudgetController(one, STRENGTH)
    for _ in range(100):
        run(control, one, pair(0.1, 0.9)[1:])
    assert control.steer("interactive", 0.0).share_price == 0.0


@pytest.mark.parametrize("truth", [0.9, 0.3])
def test_feedback_moves_the_expected_quality_to_the_mean_score(truth: float) -> None:
    control = BudgetController(route(learn_from_feedback=True), STRENGTH)
    for index in range(3000):
        expected = control.corrected({"small": 0.6})["small"]
        control.scored("small", expected, float(index % 10 < 10 * truth))
    assert control.corrected({"small": 0.6})["small"] == pytest.approx(truth, abs=0.05)
    assert control.corrected({"large": 0.7})["large"] == 0.7


def test_feedback_is_only_recorded_unless_the_route_says_more() -> None:
    control = BudgetController(route(), STRENGTH)
    control.scored("small", 0.6, 0.0)
    assert control.corrected({"small": 0.6})["small"] == 0.6


def test_at_price_zero_the_policys_choice_stands() -> None:
    feasible = pair(0.5, 0.9)
    choice = POLICIES["cheapest"](feasible, 1.0)
    assert priced(feasible, choice, Steer(1.0, 1.0, "large")) is choice
