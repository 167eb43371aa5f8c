from __future__ import annotations

import numpy as np
import pytest

from routing.decision.router import ModelState, Question, Router
from routing.latency import Busy, Demand, ModelLatency
from turnout.catalog.reading import parse
from turnout.errors import (
    DeadlineUnreachable,
    LimitUnreachable,
    LoadFailed,
    UnknownClass,
    UnknownModel,
)
from turnout.types import Decision, Limits, Request, Task

CATALOG = parse(
    """version: 1
classes:
  realtime: {deadline_ms: 100, percentile: 0.99, priority: 0, infeasible: refuse}
  interactive: {deadline_ms: 1000, priority: 1, infeasible: fastest}
  bulk: {deadline_ms: 600000, percentile: 0.5, priority: 2, infeasible: queue}
models:
  small:
    task: tabular
    runner: {engine: fake}
    cost: {usd_per_request: 1.0e-6}
  large:
    task: tabular
    runner: {engine: fake}
    cost: {usd_per_request: 5.0e-6}
routes:
  fraud:
    task: tabular
    candidates: [small, large]
    latency_class: realtime
    target_quality: {realtime: 0.9, interactive: 0.97, bulk: 1.0}
""",
    "test",
)
FREE = ModelState(Busy())


def decide(
    *, target: str = "fraud", latency_class: str = "interactive", deadline_s: float = 1.0,
    limits: Limits | None = None, small_s: float = 0.005, large_s: float = 0.02,
    states: dict[str, ModelState] | None = None, quality: tuple[float, float] = (0.9, 0.95),
    own_deadline: bool = False,
) -> Decision:  # fmt: skip
    router = Router(CATALOG, {"small": ModelLatency(small_s), "large": ModelLatency(large_s)})
    request = Request(
        "r1", target, Task.TABULAR, {"features": np.zeros((1, 15), np.float32)}, latency_class,
        0.0, deadline_s, limits or Limits(), own_deadline=own_deadline,
    )  # fmt: skip
    question = Question(request, Demand(), 0.0, {"small": quality[0], "large": quality[1]})
    state = {"small": FREE, "large": FREE} | (states or {})
    return router.decide(question, router.resolve(request), state)


def test_the_class_sets_how_much_quality_is_needed() -> None:
    assert decide(latency_class="realtime", deadline_s=1.0).model == "small"
    assert decide(latency_class="interactive").model == "large"
    assert decide(latency_class="bulk").model == "large"


def test_a_decision_says_everything_about_every_candidate() -> None:
    decision = decide(latency_class="realtime")
    assert decision.id == "r1"
    assert decision.fallbacks == ("large",)
    assert [c.model for c in decision.candidates] == ["small", "large"]
    assert all(c.prediction.p50_s <= c.prediction.p95_s for c in decision.candidates)
    assert "90%" in decision.reason


def test_a_short_deadline_bends_quality_before_it_breaks() -> None:
    decision = decide(large_s=0.6)
    assert decision.model == "small"
    assert "deadline" in (decision.candidates[1].why_not or "")
    assert decision.rule == "only"
    assert decision.reason == f"only small may answer (large: {decision.candidates[1].why_not})"


def test_congestion_moves_requests_to_the_cheaper_model() -> None:
    jammed = ModelState(Busy(queued_units=5000, running=1, batch_units=8))
    assert decide(states={"large": jammed}).model == "small"


@pytest.mark.parametrize(
    ("limits", "model"),
    [(Limits(max_cost_usd=2e-6), "small"), (Limits(min_quality=0.93), "large")],
)
def test_the_callers_own_limits_hold(limits: Limits, model: str) -> None:
    assert decide(limits=limits).model == model


def test_limits_nobody_can_keep_are_refused_with_the_reason() -> None:
    with pytest.raises(LimitUnreachable, match="min_quality"):
        decide(limits=Limits(max_cost_usd=2e-6, min_quality=0.93))


def test_when_nothing_is_feasible_the_class_says_what_happens() -> None:
    slow = {"small_s": 5.0, "large_s": 9.0}
    with pytest.raises(LimitUnreachable) as never:
        decide(latency_class="realtime", deadline_s=0.1, **slow)  # type: ignore[arg-type]
    assert never.value.nearest == pytest.approx(5000)
    jammed = dict.fromkeys(("small", "large"), ModelState(Busy(running=1, load_in_s=9.0)))
    with pytest.raises(DeadlineUnreachable) as caught:
        decide(latency_class="realtime", deadline_s=0.1, states=jammed)
    assert caught.value.retry_after_s > 1
    fast = decide(latency_class="interactive", deadline_s=0.1, **slow)  # type: ignore[arg-type]
    assert (fast.model, fast.rule) == ("small", "fastest_infeasible")
    wait = decide(latency_class="bulk", deadline_s=0.1, **slow)  # type: ignore[arg-type]
    assert (wait.model, wait.rule) == ("large", "queued")


@pytest.mark.parametrize("latency_class", ["realtime", "interactive", "bulk"])
def test_a_deadline_of_the_callers_own_that_never_holds_is_refused_by_every_class(
    latency_class: str,
) -> None:
    jammed = dict.fromkeys(("small", "large"), ModelState(Busy(running=1, load_in_s=9.0)))
    for states in (None, jammed):  # whatever is ahead
        with pytest.raises(LimitUnreachable) as never:
            decide(latency_class=latency_class, deadline_s=0.001, states=states, own_deadline=True)
        assert never.value.param == "deadline_ms"
        assert never.value.nearest == pytest.approx(5.0)


def test_a_deadline_of_the_callers_own_that_an_idle_model_holds_is_the_classs_matter() -> None:
    jammed = dict.fromkeys(("small", "large"), ModelState(Busy(running=1, load_in_s=9.0)))
    late = decide(deadline_s=0.1, states=jammed, own_deadline=True)
    assert late.rule == "fastest_infeasible"
    with pytest.raises(DeadlineUnreachable):
        decide(latency_class="realtime", deadline_s=0.1, states=jammed, own_deadline=True)


def test_a_broken_model_is_no_candidate_and_no_fallback() -> None:
    decision = decide(states={"large": ModelState(Busy(), "failed to load")})
    assert decision.model == "small"
    assert decision.fallbacks == ()
    broken = ModelState(Busy(), "failed to load")
    with pytest.raises(LoadFailed, match="failed"):
        decide(states={"small": broken, "large": broken})


def test_a_model_may_be_named_and_auto_means_the_tasks_route() -> None:
    assert decide(target="large").rule == "named"
    assert decide(target="auto").route == "fraud"
    with pytest.raises(UnknownModel, match="fraud"):
        decide(target="nothing")
    with pytest.raises(UnknownClass, match="bulk"):
        decide(latency_class="slow")
