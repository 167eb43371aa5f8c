from __future__ import annotations

from runners.health.circuit_breaker import Breaker


def test_it_opens_after_failures_in_a_row_and_lets_a_trial_through_after_its_rest() -> None:
    breaker = Breaker(failures=3, rest_s=5.0)
    for _ in range(2):
        breaker.failed(0.0, "boom")
    assert breaker.open_reason(0.0) is None
    breaker.failed(1.0, "boom")
    assert "boom" in (breaker.open_reason(1.0) or "")
    assert breaker.open_reason(5.9) is not None
    assert breaker.open_reason(6.0) is None
    breaker.failed(6.0, "still")
    assert "still" in (breaker.open_reason(6.1) or "")


def test_a_success_in_between_closes_it() -> None:
    breaker = Breaker(failures=2)
    breaker.failed(0.0, "boom")
    breaker.succeeded()
    breaker.failed(0.0, "boom")
    assert breaker.open_reason(0.0) is None
