from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry

from services.dataplane.factory import compose
from services.metrics.metrics import Metrics
from services.process.startup import service_name
from turnout.catalog.reading import parse
from turnout.settings import from_environment

CATALOG = """version: 1
classes: {bulk: {deadline_ms: 1000, priority: 1}}
models:
  here: {task: embed, runner: {engine: fake}}
  beside: {task: embed, placement: process, runner: {engine: fake}}
routes: {embed: {task: embed, candidates: [here, beside], latency_class: bulk}}
"""


def test_a_model_in_a_process_of_its_own_is_measured_there_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both processes write into one ``/metrics``; the sum must not have the model twice."""
    monkeypatch.setenv("BENTOML_RUNNER_MAP", json.dumps({service_name("beside"): "file:///none"}))
    registry = CollectorRegistry()
    plane = compose(parse(CATALOG, "test"), from_environment({}), Metrics(registry))
    plane.measure()
    assert registry.get_sample_value("turnout_running", {"model": "here"}) == 0
    assert registry.get_sample_value("turnout_running", {"model": "beside"}) is None


def test_a_model_of_placement_process_that_is_served_here_is_measured_here() -> None:
    registry = CollectorRegistry()
    plane = compose(parse(CATALOG, "test"), from_environment({}), Metrics(registry))
    plane.measure()
    assert registry.get_sample_value("turnout_running", {"model": "beside"}) == 0
