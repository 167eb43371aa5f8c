from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from services.metrics.histogram import BatchHistogram
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


def test_a_models_own_process_leaves_the_counting_to_the_gateway() -> None:
    decision = Decision("1", "chat", "m", (), "", "only", "bulk", ())
    outcome = Outcome("m", "ok", 0.0, 1.0, 1.0, 1.0)
    for counts in (True, False):
        registry = CollectorRegistry()
        metrics = Metrics(registry, counts_requests=counts)
        metrics.ended(decision, outcome, True, 0.0, None)
        metrics.turned_away("queue_full")
        metrics.flush()
        labels = {"route": "chat", "model": "m", "latency_class": "bulk", "status": "ok"}
        counted = registry.get_sample_value("turnout_requests_total", labels)
        assert counted == (1.0 if counts else None)
        refused = registry.get_sample_value("turnout_refused_total", {"code": "queue_full"})
        assert refused == (1.0 if counts else None)
