from __future__ import annotations

from routing.decision.decision_cache import DecisionCache
from turnout.types import Decision

DECISION = Decision("a", "fraud", "small", ("large",), "why", "cheapest", "realtime", ())


def test_an_equal_request_gets_the_same_decision_under_its_own_id_for_a_moment() -> None:
    recent = DecisionCache()
    recent.remember("key", DECISION, 1.0)
    again = recent.recall("key", "b", 1.04)
    assert again is not None
    assert again.id == "b"
    assert (again.model, again.fallbacks, again.reason) == ("small", ("large",), "why")
    assert recent.recall("key", "b", 1.06) is None
    assert recent.recall("other", "b", 1.0) is None


def test_it_does_not_grow_without_end() -> None:
    recent = DecisionCache()
    for key in range(10_000):
        recent.remember(key, DECISION, 0.0)
    assert sum(recent.recall(key, "x", 0.0) is not None for key in range(10_000)) <= 256
