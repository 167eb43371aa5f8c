from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from services.metrics.factory import BatchHistogram
from services.metrics.metrics import Metrics
from turnout.types import Decision, Outcome


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from([0.0, 0.1, 1.0, 10.0])), max_size=50))
def test_observing_together_is_the_same_as_one_by_one(values: list[float]) -> None:
    shown = []
    for together in (True, False):
        registry = CollectorRegistry()
        histogram = BatchHistogram("h", "h", ("m",), buckets=(0.1, 1.0, 10.0), registry=registry)
        child = histogram.labels("a")
        if together:
            child.observe_all(values)
        else:
            for value in values:
                child.observe(value)
        lines = generate_latest(registry).decode().splitlines()
        shown.append([line for line in lines if "_created" not in line and "_sum" not in line])
    assert shown[0] == shown[1]
    assert shown[0]


def test_requests_are_counted_by_their_labels_at_the_next_flush() -> None:
    decision = Decision("1", "chat", "m", (), "", "only", "bulk", ())
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for status, tokens in (("ok", 3), ("ok", 4), ("run_failed", 0)):
        outcome = Outcome("m", status, 0.0, 1.0, 1.0, 0.5, 1, 2, tokens)
        metrics.ended(decision, outcome, True, 0.25, None)
    metrics.turned_away("queue_full")
    labels = {"route": "chat", "model": "m", "latency_class": "bulk"}

    def counted(name: str, **more: str) -> float | None:
        return registry.get_sample_value(f"turnout_{name}", more)

    assert counted("requests_total", **labels, status="ok") is None
    metrics.flush()
    assert counted("requests_total", **labels, status="ok") == 2
    assert counted("requests_total", **labels, status="run_failed") == 1
    assert counted("decisions_total", **labels, rule="only") == 3
    assert counted("refused_total", code="queue_full") == 1
    assert counted("cost_usd_total", model="m") == 0.5
    assert counted("tokens_total", model="m", kind="input") == 4
    assert counted("tokens_total", model="m", kind="output") == 7
    assert counted("request_seconds_count", route="chat", latency_class="bulk") == 2
    assert counted("first_token_seconds_sum", model="m", latency_class="bulk") == 1.0
    assert counted("batch_rows_count", model="m") is None
    metrics.flush()
    assert counted("requests_total", **labels, status="ok") == 2
