from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from routing.decision.decider import Decided, Decider
from routing.decision.request_view import RequestAnalyzer
from routing.decision.router import ModelState
from routing.latency import Busy, ModelLatency
from turnout.catalog.reading import parse
from turnout.types import Generation, Message, Request, Task

CATALOG = """version: 1
classes:
  realtime: {deadline_ms: 100, percentile: 0.99, priority: 0, infeasible: refuse}
  interactive: {deadline_ms: 1000, priority: 1, infeasible: fastest}
models:
  small: {task: tabular, runner: {engine: fake}, cost: {usd_per_request: 1.0e-6}}
  large:
    task: tabular
    runner: {engine: fake}
    cost: {usd_per_request: 5.0e-6}
    quality: {prior: 0.9}
  chat-small: {task: chat, runner: {engine: fake}, quality: {prior: 0.8}}
  chat-large:
    task: chat
    runner: {engine: fake}
    cost: {usd_per_1m_output_tokens: 5.0}
    quality: {prior: 0.9}
routes:
  fraud:
    task: tabular
    candidates: [small, large]
    latency_class: realtime
    target_quality: 0.5
    explore: {share: 0.5, classes: [realtime]}
  chat:
    task: chat
    candidates: [chat-small, chat-large]
    latency_class: interactive
    target_quality: {realtime: 0.5, interactive: 0.95}
"""
ROWS = {"features": np.zeros((1, 15), np.float32)}
WORDS = Generation((Message("user", "hi"),))


class World:
    """A decider and the state of its models, which a test may change."""

    def __init__(self, large_s: float = 0.01) -> None:
        seconds = {"small": 0.01, "large": large_s, "chat-small": 0.01, "chat-large": 0.02}
        catalog = parse(CATALOG, "test")
        latencies = {name: ModelLatency(value) for name, value in seconds.items()}
        self.decider = Decider(catalog, latencies, RequestAnalyzer(catalog), b"seed")
        self.broken: dict[str, str] = {}
        self.count = 0

    def state(self, name: str) -> ModelState:
        return ModelState(Busy(), self.broken.get(name))

    def fraud(self, latency_class: str = "realtime", now_s: float = 0.0) -> Decided:
        self.count += 1
        request = Request(
            f"r{self.count}", "fraud", Task.TABULAR, ROWS, latency_class, now_s, now_s + 0.1
        )
        return self.decider.decide(request, self.state)

    def chat(self, session: str | None, latency_class: str = "interactive") -> Decided:
        self.count += 1
        request = Request(
            f"r{self.count}", "chat", Task.CHAT, WORDS, latency_class, 0.0, 1.0, session=session
        )
        return self.decider.decide(request, self.state)


def test_chance_has_its_share_also_within_a_moment_of_equal_requests() -> None:
    world = World()
    found = [world.fraud() for _ in range(4000)]
    models = Counter(each.decision.model for each in found)
    assert models["large"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert {each.decision.propensity for each in found if each.decision.model == "large"} == {0.25}
    assert {each.decision.propensity for each in found if each.decision.model == "small"} == {0.75}
    explored = [each for each in found if each.decision.rule == "explore"]
    assert "drawn" in explored[0].decision.reason


def test_chance_breaks_no_deadline_and_keeps_to_its_classes() -> None:
    slow = World(large_s=5.0)
    assert {slow.fraud().decision.model for _ in range(200)} == {"small"}
    other = World()
    found = [other.fraud("interactive") for _ in range(200)]
    assert {each.decision.model for each in found} == {"small"}
    assert all(each.exploration is None for each in found)


def test_the_same_ids_draw_the_same_models() -> None:
    one, two = World(), World()
    first = [one.fraud().decision.model for _ in range(200)]
    assert first == [two.fraud().decision.model for _ in range(200)]


def test_a_session_keeps_its_model_while_it_is_feasible_and_good_enough() -> None:
    world = World()
    assert world.chat("s").decision.model == "chat-large"
    again = world.chat("s", "realtime").decision
    assert (again.model, again.rule) == ("chat-large", "session")
    assert world.chat(None, "realtime").decision.model == "chat-small"
    world.broken["chat-large"] = "failed"
    assert world.chat("s", "realtime").decision.model == "chat-small"
    world.broken.clear()
    better = world.chat("s").decision
    assert (better.model, better.rule) == ("chat-large", "quality")


def test_a_trial_leaves_no_trace() -> None:
    world = World()
    request = Request("r", "chat", Task.CHAT, WORDS, "interactive", 0.0, 1.0, session="s")
    world.decider.decide(request, world.state, trial=True)
    assert world.chat("s", "realtime").decision.model == "chat-small"
