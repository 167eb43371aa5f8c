from __future__ import annotations

from routing.decision.sessions import Sessions


def test_a_session_has_its_model_until_it_is_long_unused() -> None:
    sessions = Sessions(keep_s=10.0)
    sessions.remember("chat", "s", "small", 0.0)
    assert sessions.recall("chat", "s", 9.0) == "small"
    assert sessions.recall("other", "s", 9.0) is None
    sessions.remember("chat", "s", "large", 9.0)
    assert sessions.recall("chat", "s", 18.0) == "large"
    assert sessions.recall("chat", "s", 30.0) is None
    assert len(sessions) == 0


def test_the_least_recently_used_session_is_forgotten_first() -> None:
    sessions = Sessions(most=2)
    sessions.remember("chat", "a", "small", 0.0)
    sessions.remember("chat", "b", "small", 1.0)
    sessions.remember("chat", "a", "small", 2.0)
    sessions.remember("chat", "c", "small", 3.0)
    assert [sessions.recall("chat", name, 3.0) for name in "abc"] == ["small", None, "small"]
